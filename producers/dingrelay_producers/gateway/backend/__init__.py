"""What a gateway process holds: Redis, the SQL database behind threads, and the permissions of keys."""
