"""What is to be told to subscribers, written in one step with the change that it tells of."""
