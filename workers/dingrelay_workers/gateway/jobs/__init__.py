"""``/v1/messages`` and its kin, ``/v1/jobs`` and ``/v1/dead``."""
