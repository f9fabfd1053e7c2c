"""Workarounds for XLA's CPU compiler and client; each file says why it exists and when it can be removed."""
