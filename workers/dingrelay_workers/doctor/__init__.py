"""Checks of everything that dingrelay stands on: one file a neighbour."""
