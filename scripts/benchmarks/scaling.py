"""One run on 1, 2, 4 and 8 devices: the losses must agree; the speed says something on accelerators only.

Where there is one CPU the devices are emulated, and share its cores.
"""

import argparse
import os

from benchmarks import measuring

COUNTS = (1, 2, 4, 8)
_STEPS, _BATCH = 20, 64


def run(args: argparse.Namespace) -> list[str]:
    """The table, and how far the losses of the first steps are apart."""
    counts = [int(x) for x in args.of] or COUNTS
    names = {f"{n} devices": n for n in counts}
    contenders = {name: measuring.in_process("scaling", str(n), seconds=args.seconds) for name, n in names.items()}
    found = measuring.in_turns(contenders, args.rounds)
    losses = {n: measuring.in_process("scaling", str(n), seconds=0)() for n in counts}
    apart = max(losses.values()) / min(losses.values()) - 1
    told = f"loss of steps 1 to {_STEPS}: {losses[counts[0]]:.6f} on {counts[0]}, largest difference {apart:.1e} of it"
    return [*measuring.report(f"lenet5, batch {_BATCH}", found, next(iter(names))), "", told]


def measure(devices: str, seconds: str) -> float:
    """Steps a second; the mean loss of the first steps for no seconds."""
    os.environ.setdefault("NPROC", "16")  # the collectives of emulated devices need a thread each
    import jax

    jax.config.update("jax_num_cpu_devices", max(COUNTS))
    from benchmarks.ours import running

    data = "synthetic(height=32, width=32, channels=1, num_classes=10, train_examples=4096, test_examples=10)"
    records: list[float] = []
    every = f"logging.every={_STEPS} steps" if float(seconds) == 0 else "logging.every=100 steps"
    with running("lenet5", data, _BATCH, f"devices={devices}", every, records=records) as advance:
        if float(seconds):
            return measuring.steady_speed(advance, float(seconds))
        advance(_STEPS)
        advance(_STEPS)
    return records[0]
