"""``/v1/keys``: API keys over HTTP, and what the command line shares with it."""
