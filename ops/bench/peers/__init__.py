"""What people use instead, each set up as its documentation recommends."""
