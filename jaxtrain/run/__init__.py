"""A run: `fit`, its loop, and everything that it keeps in the run directory."""
