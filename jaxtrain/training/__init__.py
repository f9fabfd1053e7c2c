"""Training: the plan of a run, its state, step, loop, evaluation and checkpoints."""
