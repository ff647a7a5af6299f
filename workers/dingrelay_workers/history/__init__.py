"""Ended jobs and their outcomes, in SQL: Redis keeps the open ones."""
