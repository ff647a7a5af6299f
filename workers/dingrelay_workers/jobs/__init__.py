"""One run of one job: parse → claim → run → settle, and what its end means."""
