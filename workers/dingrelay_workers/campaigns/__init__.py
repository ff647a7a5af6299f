"""Broadcasts to any number of people."""
