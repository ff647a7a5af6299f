"""The audit: who changed what, through which door."""
