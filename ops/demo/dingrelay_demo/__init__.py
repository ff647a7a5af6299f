"""The demo: the main jobs on a local DingTalk, live on the terminal, and judged at the end."""
