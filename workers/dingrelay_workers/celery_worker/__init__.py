"""Every change to Celery and kombu, and the check that what it uses is there."""
