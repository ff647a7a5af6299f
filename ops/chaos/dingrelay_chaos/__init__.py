"""Chaos: the real system under a random schedule, verified by what really happened at DingTalk."""
