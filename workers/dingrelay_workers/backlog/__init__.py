"""Waiting jobs and the time they take: counted by application, lane, kind and sender."""
