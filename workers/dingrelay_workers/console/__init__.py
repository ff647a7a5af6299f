"""The console: pages for people who do not program. It calls the nouns' services in its own process."""
