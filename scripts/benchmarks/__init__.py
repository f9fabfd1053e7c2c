"""What `scripts/bench.py` measures: one file a benchmark, and how they all measure in `measuring.py`."""
