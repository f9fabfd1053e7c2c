"""Layers: what the models are made of beyond flax's own."""
