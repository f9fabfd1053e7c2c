"""One epoch of LeNet-5 on MNIST from the start of a process to the evaluated model, beside PyTorch.

`--data-dir DIR` holds the four files in its folder `mnist`.
"""

import argparse
import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measuring

_BATCH = 128


def run(args: argparse.Namespace) -> list[str]:
    """The table, and the accuracies that were reached."""
    script, data = str(Path(__file__).parents[1] / "bench.py"), f"data={args.data_dir}"
    contenders = {}
    for name in ("jaxtrain", "jaxtrain, nothing cached", "PyTorch"):
        of, _, uncached = name.partition(",")
        command = [sys.executable, script, "--only", "epoch", of, data]
        environment = {"JAXTRAIN_COMPILATION_CACHE": "off"} if uncached else {}
        contenders[name] = functools.partial(measuring.whole_process, command, environment)
    found = measuring.in_turns(contenders, args.rounds)
    reached = [
        f"{of}: test accuracy {measuring.in_process('epoch', of, data=args.data_dir)():.4f}"
        for of in ("jaxtrain", "PyTorch")
    ]
    return [*measuring.report("one epoch", found, "jaxtrain", measuring.SECONDS), "", *reached]


def measure(contender: str, data: str) -> float:
    """Trains and evaluates, here and now; the test accuracy."""
    return (_ours if contender == "jaxtrain" else _torch)(Path(data))


def _ours(data: Path) -> float:
    from jaxtrain.cli.main import main

    with tempfile.TemporaryDirectory() as folder:
        options = ["data.pad=0", "data.validation=none", "train_for=1 epochs"]
        options += ["optimizer=sgd(learning_rate=0.01, momentum=0.9)", "checkpoint.every=1 epochs"]
        options += ["logging.tensorboard=false"]  # its package imports PyTorch where that is installed, 1.5 s
        run = str(Path(folder, "run"))
        if main(["train", "mnist_lenet5", *options, "--data-dir", str(data), "--workdir", run, "--quiet"]):
            raise SystemExit("jaxtrain failed")
        return float(json.loads(Path(run, "result.json").read_text())["final"]["test"]["accuracy"])


def _torch(data: Path) -> float:
    import torch
    from torch.nn import functional

    from benchmarks.torch_nets import torch_net
    from jaxtrain.data.sources.idx import mnist

    found = mnist(directory=data)
    splits = [found.load(split) for split in ("train", "test")]
    arrays = [(torch.tensor(split.images), torch.tensor(split.labels).long()) for split in splits]
    torch.manual_seed(0)
    model: Any = torch_net("lenet5", 28)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def batch(images: Any) -> Any:
        return images.permute(0, 3, 1, 2).float().sub_(33.3).div_(78.6)

    images, labels = arrays[0]
    order = torch.randperm(len(labels))
    for i in range(0, len(labels), _BATCH):
        index = order[i : i + _BATCH]
        optimizer.zero_grad()
        loss: Any = functional.cross_entropy(model(batch(images[index])), labels[index])
        loss.backward()
        optimizer.step()
    images, labels = arrays[1]
    with torch.no_grad():
        parts = range(0, len(labels), 1000)
        right = sum((model(batch(images[i : i + 1000])).argmax(1) == labels[i : i + 1000]).sum().item() for i in parts)
    return float(right / len(labels))
