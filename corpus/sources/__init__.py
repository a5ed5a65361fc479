"""Where recordings come from. Sources know nothing of the catalogue: they return what they found."""
