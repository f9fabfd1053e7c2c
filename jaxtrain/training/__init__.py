"""Training: the plan of a run, its state, and the training step with everything that it compiles."""
