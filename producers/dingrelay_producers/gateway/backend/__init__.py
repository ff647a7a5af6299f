"""What a gateway process holds: Redis, the SQL database behind threads, and who may do what."""
