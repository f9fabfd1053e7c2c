"""Reporting: what a run tells while it goes on, to its files and to whoever watches."""
