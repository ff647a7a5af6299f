"""Chaos: the real system under a random schedule, judged by what really happened at DingTalk."""
