"""The machinery that carries any job."""
