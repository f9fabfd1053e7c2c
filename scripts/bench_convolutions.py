#!/usr/bin/env python3
"""Convolutions on a CPU: ours against XLA's by shape, and whole training steps against PyTorch's, alternating.

    python scripts/bench_convolutions.py shapes
    python scripts/bench_convolutions.py steps --rounds 7
    python scripts/bench_convolutions.py steps --cores 1      # a thread and a core each: what a neighbor costs least
    python scripts/bench_convolutions.py epoch --data-dir DIR

Beside the wall time stands the time of processors, which other work on the machine disturbs less. PyTorch is optional.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 128
Run = Callable[[int], None]

SHAPES: dict[str, tuple[int, int, int, int, int, int, int]] = {
    # images, side, input and output channels, window, stride, padding
    "lenet5 conv1": (128, 28, 1, 6, 5, 1, 0),
    "lenet5 conv2": (128, 12, 6, 16, 5, 1, 0),
    "resnet20 stem": (128, 32, 3, 16, 3, 1, 1),
    "resnet20 stage 1": (128, 32, 16, 16, 3, 1, 1),
    "resnet20 to stage 2": (128, 32, 16, 32, 3, 2, 1),
    "resnet20 stage 2": (128, 16, 32, 32, 3, 1, 1),
    "resnet20 to stage 3": (128, 16, 32, 64, 3, 2, 1),
    "resnet20 stage 3": (128, 8, 64, 64, 3, 1, 1),
    "resnet20 1x1/2": (128, 32, 16, 32, 1, 2, 0),
    "resnet50 stem": (8, 224, 3, 64, 7, 2, 3),
    "resnet50 3x3x64": (8, 56, 64, 64, 3, 1, 1),
    "resnet50 1x1x64x256": (8, 56, 64, 256, 1, 1, 0),
    "resnet50 3x3x256": (8, 14, 256, 256, 3, 1, 1),
    "resnet50 3x3x512": (8, 7, 512, 512, 3, 1, 1),
    "vgg16 3x3x64": (2, 224, 64, 64, 3, 1, 1),
}


def bench_shapes(rounds: int) -> None:
    """Milliseconds of processors and of the clock for each shape, forward and both gradients."""
    for name, shape in SHAPES.items():
        for kind in ("forward", "images", "weights"):
            took = alternate({which: _convolution_run(shape, kind, which) for which in ("ours", "xla")}, rounds)
            (a, b), (c, d) = ([statistics.median(t) * 1e3 for t in took[which]] for which in ("ours", "xla"))
            same = "" if _is_native(shape, kind) else "  (the same: XLA's)"
            print(f"{name:20} {kind:8} ratio {d / b:5.2f} (clock {c / a:5.2f})  {b:7.2f} ms, XLA {d:7.2f}{same}")


def _program(shape: tuple[int, ...], kind: str, which: str) -> tuple[Any, tuple[Any, Any]]:
    """A jitted function and its arguments."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from jaxtrain.nn.convolutions import convolution

    n, side, inputs, outputs, window, stride, padding = shape
    draw = np.random.RandomState(0)
    x = jnp.asarray(draw.randn(n, side, side, inputs), jnp.float32)
    w = jnp.asarray(draw.randn(window, window, inputs, outputs), jnp.float32)
    conv = convolution if which == "ours" else lax.conv_general_dilated

    def forward(x: Any, w: Any) -> Any:
        return conv(x, w, (stride,) * 2, ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    dy = jnp.ones(jax.eval_shape(forward, x, w).shape)
    if kind == "images":
        return jax.jit(lambda dy, w: jax.linear_transpose(lambda x: forward(x, w), x)(dy)), (dy, w)
    if kind == "weights":
        return jax.jit(lambda x, dy: jax.linear_transpose(lambda w: forward(x, w), w)(dy)), (x, dy)
    return jax.jit(forward), (x, w)


def _convolution_run(shape: tuple[int, ...], kind: str, which: str) -> Run:
    import jax

    call, arguments = _program(shape, kind, which)

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(call(*arguments))

    return run


def _is_native(shape: tuple[int, ...], kind: str) -> bool:
    call, arguments = _program(shape, kind, "ours")
    return "@jaxtrain_" in call.lower(*arguments).as_text()


def alternate(runs: dict[str, Any], rounds: int, steps: int = 1) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds a step by the clock and of processors, each run in its turn."""
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in runs}
    for run in runs.values():
        run(1)
    for _ in range(rounds):
        for name, run in runs.items():
            clock, processors = time.perf_counter(), time.process_time()
            run(steps)
            took[name][0].append((time.perf_counter() - clock) / steps)
            took[name][1].append((time.process_time() - processors) / steps)
    return took


def bench_steps(nets: list[str], rounds: int) -> None:
    """Steps a second of training, batch 128, SGD with momentum."""
    for net in nets:
        runs = {"jaxtrain": _jax_step(net, native=True), "plain XLA": _jax_step(net, native=False)}
        try:
            import torch
        except ImportError:
            print("PyTorch is not here")
        else:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            runs["torch NCHW"] = _torch_step(net, channels_last=False)
            runs["torch channels_last"] = _torch_step(net, channels_last=True)
        took = alternate(runs, rounds, 10 if net == "lenet5" else 1)
        ours = [statistics.median(t) for t in took["jaxtrain"]]
        for name, (clock, processors) in took.items():
            print(
                f"{net:9} {name:20} jaxtrain is {statistics.median(clock) / ours[0]:.2f} times as fast "
                f"({statistics.median(processors) / ours[1]:.2f} by processors' time): "
                f"{1 / statistics.median(clock):.2f} steps/s [{1 / max(clock):.2f}-{1 / min(clock):.2f}], "
                f"{statistics.median(processors) * 1e3:.0f} ms of processors a step"
            )


def _jax_step(net: str, *, native: bool) -> Run:
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    import jaxtrain.nn.layers
    from jaxtrain.models.cifar_resnets import cifar_resnet
    from jaxtrain.models.lenet import lenet5
    from jaxtrain.nn.convolutions import convolution

    model: Any = lenet5(num_classes=10) if net == "lenet5" else cifar_resnet(num_classes=10)
    images = jax.random.normal(jax.random.key(0), (BATCH, *_image(net)))
    labels = jnp.arange(BATCH) % 10
    # a model takes the function when it is traced
    jaxtrain.nn.layers.convolution = convolution if native else lax.conv_general_dilated  # type: ignore[attr-defined]
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    params, tx = variables.pop("params"), optax.sgd(0.01, momentum=0.9)

    def step(state: Any, images: Any, labels: Any) -> Any:
        params, variables, opt_state = state

        def objective(params: Any) -> Any:
            logits, new = model.apply({"params": params, **variables}, images, train=True, mutable=list(variables))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new

        (loss, new), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), new, opt_state), loss

    state = (params, variables, tx.init(params))
    began = time.perf_counter()
    call = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
    print(f"{net} {'jaxtrain' if native else 'plain XLA'}: {time.perf_counter() - began:.1f} s to compile", flush=True)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, loss = call(state, images, labels)
        loss.block_until_ready()

    return run


def _image(net: str) -> tuple[int, int, int]:
    return (28, 28, 1) if net == "lenet5" else (32, 32, 3)


def _torch_step(net: str, *, channels_last: bool) -> Run:
    import torch
    from torch.nn import functional

    height, width, channels = _image(net)
    model = torch_lenet5() if net == "lenet5" else torch_resnet20()
    images, labels = torch.randn(BATCH, channels, height, width), torch.arange(BATCH) % 10
    if channels_last:
        model, images = (x.to(memory_format=torch.channels_last) for x in (model, images))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss.item()

    return run


def torch_lenet5() -> Any:
    """The net of `jaxtrain.models.lenet` for images of 28x28."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def torch_resnet20() -> Any:
    """ResNet-20 with shortcuts A."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs: int, features: int):
            super().__init__()
            self.stride, self.more = 1 if inputs == features else 2, features - inputs
            self.conv1 = nn.Conv2d(inputs, features, 3, self.stride, 1, bias=False)
            self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(features), nn.BatchNorm2d(features)

        def forward(self, x: Any) -> Any:
            y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
            if self.more:
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return functional.relu(x + y)

    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(a, b) for a, b in itertools.pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def bench_epoch(data: str, rounds: int) -> None:
    """Wall seconds of one epoch of LeNet-5 on MNIST, from the start of a process to the evaluated model."""
    took: dict[str, list[float]] = {"jaxtrain": [], "jaxtrain, nothing cached": [], "torch": []}
    for _ in range(rounds):
        for name, seconds in took.items():
            began = time.perf_counter()
            command = [sys.executable, __file__, "one-epoch", "--of", name.split(",")[0], "--data-dir", data]
            cache = {"JAXTRAIN_COMPILATION_CACHE": "off"} if "," in name else {}
            processors = os.times()
            ended = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **cache})
            seconds.append(time.perf_counter() - began)
            used = sum(os.times()[2:4]) - sum(processors[2:4])
            accuracy = ended.stdout.strip().splitlines()[-1]
            print(f"{name}: {seconds[-1]:.1f} s, {used:.1f} s of processors, test accuracy {accuracy}", flush=True)
    torch = statistics.median(took["torch"])
    for name, seconds in took.items():
        print(f"{name}: {statistics.median(seconds):.1f} s, {statistics.median(seconds) / torch:.2f} of torch's time")


def one_epoch(name: str, data: str) -> None:
    """Trains and evaluates, here and now."""
    (_epoch_of_jaxtrain if name == "jaxtrain" else _epoch_of_torch)(data)


def _epoch_of_jaxtrain(data: str) -> None:
    import json
    import tempfile

    from jaxtrain.cli.main import main

    with tempfile.TemporaryDirectory() as folder:
        options = ["data.pad=0", "data.validation=none", "train_for=1 epochs"]
        options += ["optimizer=sgd(learning_rate=0.01, momentum=0.9)", "checkpoint.every=1 epochs"]
        options += ["logging.tensorboard=false"]  # its package imports PyTorch where that is installed, 1.5 s
        run = str(Path(folder, "run"))
        if main(["train", "mnist_lenet5", *options, "--data-dir", data, "--workdir", run, "--quiet"]):
            raise SystemExit("jaxtrain failed")
        print(json.loads(Path(run, "result.json").read_text())["final"]["test"]["accuracy"])


def _epoch_of_torch(data: str) -> None:
    import torch
    from torch.nn import functional

    from jaxtrain.data.sources.idx import mnist

    found = mnist(directory=Path(data))
    arrays = {}
    for split in ("train", "test"):
        loaded = found.load(split)
        arrays[split] = (torch.tensor(loaded.images), torch.tensor(loaded.labels).long())
    torch.manual_seed(0)
    model = torch_lenet5()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def batch(images: Any) -> Any:
        return images.permute(0, 3, 1, 2).float().sub_(33.3).div_(78.6)

    images, labels = arrays["train"]
    order = torch.randperm(len(labels))
    for i in range(0, len(labels), BATCH):
        index = order[i : i + BATCH]
        optimizer.zero_grad()
        loss: Any = functional.cross_entropy(model(batch(images[index])), labels[index])
        loss.backward()
        optimizer.step()
    images, labels = arrays["test"]
    with torch.no_grad():
        parts = range(0, len(labels), 1000)
        right = sum((model(batch(images[i : i + 1000])).argmax(1) == labels[i : i + 1000]).sum().item() for i in parts)
    print(right / len(labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["shapes", "steps", "epoch", "one-epoch"])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, alternating")
    parser.add_argument("--nets", nargs="+", default=["lenet5", "resnet20"], choices=["lenet5", "resnet20"])
    parser.add_argument("--cores", type=int, help="use this many only, with as many threads")
    parser.add_argument("--data-dir", default="data", help="its folder mnist holds the four files")
    parser.add_argument("--of", choices=["jaxtrain", "torch"], help="whose epoch")
    args = parser.parse_args()
    if args.cores:  # which the processes that are started from here have as well
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-args.cores :]))
    if args.what == "shapes":
        bench_shapes(args.rounds)
    elif args.what == "steps":
        bench_steps(args.nets, args.rounds)
    elif args.what == "epoch":
        bench_epoch(args.data_dir, args.rounds)
    else:
        one_epoch(args.of, args.data_dir)


if __name__ == "__main__":
    main()
