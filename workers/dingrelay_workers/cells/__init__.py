"""Which apps the workers of a cell serve."""
