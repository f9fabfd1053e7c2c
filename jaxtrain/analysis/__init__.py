"""Analysis of models and runs: check, summary, compare, profile, receptive fields, activation statistics."""
