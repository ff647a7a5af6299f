"""The client of a business application."""
