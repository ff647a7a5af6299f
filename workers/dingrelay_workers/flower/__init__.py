"""Flower, set up for dingrelay."""
