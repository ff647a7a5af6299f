"""What was asked for and what came of it, in SQL: Redis keeps what goes on, SQL what went on."""
