"""Who asks: the client, the command line, and the record of what was asked."""
