"""Output of runs and commands: terminal displays, metric writers, tables, charts and images."""
