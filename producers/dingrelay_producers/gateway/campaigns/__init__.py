"""``/v1/campaigns``: broadcasts over HTTP, with their recipients in files of any length."""
