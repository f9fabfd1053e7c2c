"""Evaluation of a state on a split, also with averaged parameters or test-time augmentation."""
