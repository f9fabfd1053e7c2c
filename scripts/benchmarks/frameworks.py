"""Training speed beside bare jax, flax's example loop, Keras 3 on jax, PyTorch (eager, compiled) and Lightning.

Each measurement is a process of its own, the contenders in turns. `--of mlp:32 lenet5:128` chooses nets and batches.
On a CPU leave Keras's fifty steps a call out of large nets (`--without "Keras x50"`): convolutions in a loop of XLA's
take minutes a measurement there.
"""

import argparse
import contextlib

from benchmarks import measuring
from benchmarks.nets import NETS

CONTENDERS: dict[str, tuple[str, ...]] = {
    "jaxtrain": (),
    "bare jax": (),
    "flax example": (),
    "Keras": ("keras",),
    "Keras x50": ("keras",),
    "PyTorch eager": ("torch", "torchvision"),
    "PyTorch compiled": ("torch", "torchvision"),
    "Lightning": ("torch", "torchvision", "lightning"),
}
"""With the packages that each needs."""


def run(args: argparse.Namespace) -> list[str]:
    """Prints each table when it is complete."""
    for case in args.of or [f"{name}:{batch}" for name, net in NETS.items() for batch in net.batches]:
        name, _, batch = case.partition(":")
        batch = batch or str(NETS[name].batches[0])
        contenders = {}
        for contender, needs in CONTENDERS.items():
            if contender in args.without:
                continue
            if package := measuring.missing(*needs):
                print(f"{contender}: left out, {package} is not installed")
                continue
            contenders[contender] = measuring.in_process(
                "frameworks", contender, net=name, batch=batch, seconds=args.seconds
            )
        found = measuring.in_turns(contenders, args.rounds)
        print("\n".join([*measuring.report(f"{name}, batch {batch}", found, "jaxtrain"), ""]), flush=True)
    return []


def measure(contender: str, net: str, batch: str, seconds: str) -> float:
    """Steps a second of one contender, in this process."""
    of, size = NETS[net], int(batch)
    with contextlib.ExitStack() as stack:
        if contender == "jaxtrain":
            from benchmarks.ours import running

            advance = stack.enter_context(running(of.model, of.dataset, size))
        elif contender in ("bare jax", "flax example"):
            from benchmarks import jax_loops

            advance = (jax_loops.careful if contender == "bare jax" else jax_loops.flax_example)(of, size)
        elif contender.startswith("Keras"):
            from benchmarks import keras_loops

            advance = keras_loops.loop(of, net, size, 50 if contender.endswith("x50") else 1)
        else:
            from benchmarks import torch_loops

            if contender == "Lightning":
                advance = torch_loops.lightning(of, net, size)
            else:
                advance = torch_loops.loop(of, net, size, compiled=contender == "PyTorch compiled")
        return measuring.steady_speed(advance, float(seconds))
