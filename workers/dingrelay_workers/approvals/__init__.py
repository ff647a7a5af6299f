"""What is checked of an approval before it is created."""
