"""What can be asked, and what each job does."""
