"""Initializers: formulas in the shape of a parameter, and initializations that look at a batch."""
