"""Listen to segments and correct their labels, in a browser."""
