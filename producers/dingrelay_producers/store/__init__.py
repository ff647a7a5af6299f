"""The job record: its keys, its states, and the scripts that producers run."""
