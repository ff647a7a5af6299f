"""API keys of the HTTP gateway: who has one, what it may do, and how often."""
