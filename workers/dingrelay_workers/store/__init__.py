"""The job record in Redis: its transitions, the claims on it, and the connections."""
