"""What `corpus report` tells: the numbers, the same as tables, and a page with plots and sound."""
