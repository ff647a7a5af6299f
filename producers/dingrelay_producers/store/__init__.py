"""The job record: its keys, its states, and the scripts of whoever asks."""
