"""Names on the wire."""

TASK_PREFIX = "dingrelay."
"""A kind's Celery task is called ``dingrelay.<kind>``."""
