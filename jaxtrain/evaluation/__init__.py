"""Evaluation: a state on a split, averaged parameters, test-time augmentation."""
