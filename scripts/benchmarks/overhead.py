"""Steady-state steps a second of the training loop against hand-written jax loops of the same run, in one process.

The MLP 784-512-512-10, and 784-32-10, so small that only dispatch counts; batch 32, 60,000 uint8 images on the device,
shuffled each epoch, SGD with momentum, loss and accuracy every 100 steps, which ours writes to files and TensorBoard.
"""

import argparse
import functools

from benchmarks import measuring

NETS = {"wide": ([512, 512], 5_000), "tiny": ([32], 40_000)}
"""Widths, and steps in a measurement, of which the first few hundred find out how many to dispatch together."""


def run(args: argparse.Namespace) -> list[str]:
    """The tables."""
    from benchmarks import mlp
    from benchmarks.ours import running

    lines = []
    for name in args.of or NETS:
        widths, steps = NETS[name]
        dataset = "synthetic(like='mnist', test_examples=1000)"
        with running(f"mlp(widths={widths})", dataset, mlp.BATCH) as advance:
            contenders = {
                "jaxtrain": functools.partial(measuring.speed, advance, steps),
                "hand-written, jit": functools.partial(measuring.speed, mlp.Bare(widths, 1), steps),
                "hand-written, lax.scan x50": functools.partial(measuring.speed, mlp.Bare(widths, 50), steps),
            }
            found = measuring.in_turns(contenders, args.rounds)
        lines += [*measuring.report(f"784-{'-'.join(map(str, widths))}-10", found, "jaxtrain"), ""]
    return lines
