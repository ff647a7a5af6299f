"""Cells: which one has an app or a job, and how all of them are asked when one may be away."""
