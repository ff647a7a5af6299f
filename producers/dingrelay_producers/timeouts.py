"""How long Redis and the broker may be silent."""

SOCKET_TIMEOUT = 5
"""Seconds. Without it a worker hangs for ever on a connection that is silent but not closed."""
PRODUCER_TIMEOUT = 2
"""Seconds that sending a job may wait for the broker: the job is accepted already."""
HEALTH_CHECK = 5
"""Seconds between PINGs on a connection that waits for messages: how a silent one is noticed."""
