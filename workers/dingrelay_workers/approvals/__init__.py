"""Checks of an approval before it is created."""
