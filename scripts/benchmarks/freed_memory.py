"""Training with freed memory kept by the process, and given back: time of a step, page faults, greatest memory.

Each measurement is a process of its own, `jaxtrain train` with JAXTRAIN_KEEP_MEMORY on or off. `--of` chooses nets.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measuring

NETS: dict[str, tuple[str, ...]] = {
    "resnet20": (
        "cifar10_resnet20",
        "data.dataset=synthetic(height=32, width=32, channels=3, num_classes=10, train_examples=3072,"
        " test_examples=512)",
        "data.validation=512 examples",
        "train_for=28 steps",
        "logging.every=4 steps",
    ),
    "lenet5": ("digits_lenet5", "train_for=400 steps", "logging.every=40 steps"),
}
_MEASURED = ("ms a step", "page faults, thousands", "seconds in the kernel", "greatest resident MiB")
_LESS = measuring.Unit("less is better", more_is_better=False, decimals=1)


def run(args: argparse.Namespace) -> list[str]:
    """A table for each net and for each of what is measured."""
    lines: list[str] = []
    for net in args.of or NETS:
        digests: set[str] = set()
        values: dict[str, list[Sequence[float]]] = {"kept": [], "given back": []}
        for turn in range(args.rounds + 1):  # the first compiles
            for name in sorted(values, reverse=bool(turn % 2)):
                *numbers, digest = _in_process(name, net)
                digests.add(digest)
                if turn:
                    values[name].append([float(number) for number in numbers])
        for index, what in enumerate(_MEASURED):
            found = {name: [numbers[index] for numbers in rounds] for name, rounds in values.items()}
            lines += [*measuring.report(f"{net}: {what}", found, "kept", _LESS), ""]
        lines += [f"{net}: parameters {'are the same' if len(digests) == 1 else 'DIFFER'}", ""]
    return lines


def _in_process(contender: str, net: str) -> list[str]:
    script = str(Path(__file__).parents[1] / "bench.py")
    environment = {"JAXTRAIN_KEEP_MEMORY": "off" if contender == "given back" else "on"}
    command = [sys.executable, script, "--only", "freed_memory", contender, f"net={net}"]
    return measuring.completed(command, environment).stdout.splitlines()[-1].split()


def measure(contender: str, net: str) -> str:
    """Train here and now; return the numbers of `_MEASURED` and the digest of the parameters."""
    from jaxtrain.cli.main import main
    from jaxtrain.xla_cpu.keep_memory import describe_freed_memory

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        if main(["train", *NETS[net], "logging.tensorboard=false", "--workdir", str(run), "--quiet"]):
            raise SystemExit("jaxtrain failed")
        if not describe_freed_memory().startswith(contender):
            raise SystemExit(f"freed memory is {describe_freed_memory()}")
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        batch = json.loads((run / "config.json").read_text())["data"]["batch_size"]
        digest = json.loads((run / "result.json").read_text())["params_sha256"]
    speeds = [r["images_per_second"] for r in records if r["split"] == "train" and "images_per_second" in r]
    used = resource.getrusage(resource.RUSAGE_SELF)
    step = 1e3 * batch / statistics.median(speeds[1:])
    return f"{step:.2f} {used.ru_minflt / 1e3:.1f} {used.ru_stime:.2f} {used.ru_maxrss / 2**10:.1f} {digest}"
