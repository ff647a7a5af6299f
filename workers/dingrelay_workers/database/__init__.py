"""The SQL database: its connections, the base of its tables, and its schema."""
