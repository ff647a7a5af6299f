"""The demo: the main jobs on a local DingTalk, live on the terminal, and verified at the end."""
