"""The faults: what goes wrong, and how it ends; a file for what each is about."""
