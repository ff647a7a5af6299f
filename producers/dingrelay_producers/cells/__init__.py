"""Cells: which one has an app or a job, and queries of all of them when one may be away."""
