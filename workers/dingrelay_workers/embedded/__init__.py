"""The whole system on one machine, as `dingrelay up` runs it."""
