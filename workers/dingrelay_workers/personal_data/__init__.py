"""What is kept of one person, in every place: handed out, and taken out once it is needed no more."""
