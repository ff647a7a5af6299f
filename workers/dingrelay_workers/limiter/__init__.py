"""Limits that hold across the fleet."""
