"""What exists because of XLA's CPU compiler alone; each file says why, and when it can go."""
