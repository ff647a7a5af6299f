"""``/v1/webhooks``: endpoints over HTTP, and what the command line shares with it."""
