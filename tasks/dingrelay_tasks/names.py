"""Names on the wire."""

from typing import Any

TASK_PREFIX = "dingrelay."
"""A kind's Celery task is called ``dingrelay.<kind>``."""

Json = dict[str, Any]
"""An object of JSON."""
