"""DingTalk: its APIs, its errors, and the client that calls it."""
