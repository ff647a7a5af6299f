"""Keeps the fleet going: scheduler, leases, heartbeats, timeouts."""
