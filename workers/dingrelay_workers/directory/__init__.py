"""The organisation in SQL."""
