"""Roles of people: what each may do in the console."""
