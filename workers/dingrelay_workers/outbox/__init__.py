"""What subscribers get, written in one step with the change that it is about."""
