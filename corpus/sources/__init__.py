"""Where recordings come from. A source knows no catalogue: it returns what it has found."""
