"""What a model or a run costs and does: check, summary, compare, profile, receptive fields, activation statistics."""
