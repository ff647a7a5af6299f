"""What keeps the fleet going: scheduler, leases, signs of life, timeouts."""
