"""The run: `fit`, the training loop, and the files in the run directory."""
