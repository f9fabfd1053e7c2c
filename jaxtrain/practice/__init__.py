"""The practice of training: checking a run before it starts, and the machine it starts on."""
