"""What input costs: decoding ahead of the step, augmentation inside it; `bench_input.py host` and `device`."""

import argparse
import os

import bench_input


def run(args: argparse.Namespace) -> list[str]:
    """Prints as they go; `--of host` or `--of device` for one of them."""
    workers = len(os.sched_getaffinity(0))
    settings = argparse.Namespace(rounds=args.rounds, images=None, count=256, batches=12, workers=workers, calls=20)
    for part in args.of or ("host", "device"):
        {"host": bench_input.measure_host, "device": bench_input.measure_device}[part](settings)
    return []
