"""What it takes to gather, augment, mix and normalize a batch inside a program, beside a step of ResNet-20.

128 random images of CIFAR-10's size; the step has a batch that is ready.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import measuring

_CALLS = 20
"""Batches that are made in each measurement."""
_STEP = "a step of ResNet-20"
_MILLISECONDS = measuring.Unit("ms", more_is_better=False, decimals=1)
_INPUTS: dict[str, tuple[str, ...]] = {
    "normalize": (),
    "pad_crop|flip_lr, normalize": ("data.augment=pad_crop(4)|flip_lr",),
    "the same, cutout": ("data.augment=pad_crop(4)|flip_lr|cutout(16)",),
    "the same, mixup": ("data.augment=pad_crop(4)|flip_lr", "data.mix=mixup(1.0)"),
    "the same, randaugment": ("data.augment=pad_crop(4)|flip_lr|randaugment(2, 9)",),
    "the same, randaugment, mixup": ("data.augment=pad_crop(4)|flip_lr|randaugment(2, 9)", "data.mix=mixup(1.0)"),
}


def run(args: argparse.Namespace) -> list[str]:
    """The table, and each share of a step."""
    step, loads = _parts()
    contenders = {_STEP: functools.partial(_milliseconds, step, 1)}
    contenders |= {name: functools.partial(_milliseconds, load, _CALLS) for name, load in loads.items()}
    found = measuring.in_turns(contenders, args.rounds)
    shares = {name: statistics.median(a / b for a, b in zip(found[name], found[_STEP], strict=True)) for name in loads}
    told = [f"{name}: {share:.1%} of a step" for name, share in shares.items()]
    return [*measuring.report("a batch of 128", found, _STEP, _MILLISECONDS), "", *told]


def _milliseconds(work: Callable[[], None], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return 1000 * (time.perf_counter() - began) / calls


def _parts() -> tuple[Callable[[], None], dict[str, Callable[[], None]]]:
    """Functions that make a step, and that make a batch in each of the ways, and wait for it."""
    import jax
    import numpy as np

    from jaxtrain.config import apply_overrides, load_config
    from jaxtrain.data.memory import put_split
    from jaxtrain.data.splits import fit_normalization, load_splits
    from jaxtrain.training.inputs import make_loader, make_order
    from jaxtrain.training.plan import make_plan
    from jaxtrain.training.state import state_initializer

    data = "synthetic(height=32, width=32, channels=3, num_classes=10, train_examples=5000, test_examples=100)"
    recipe = apply_overrides(
        load_config("cifar10_resnet20"),
        [f"data.dataset={data}", "data.validation=none", "data.normalize=mean_std", "data.normalize_first=false"],
    )
    batches: dict[str, Callable[[], None]] = {}
    for name, settings in _INPUTS.items():
        plan = make_plan(apply_overrides(recipe, ["data.augment=", *settings, "devices=1"]))
        splits = load_splits(plan.splits, ("train",), 0)
        load, order = make_loader(plan, fit_normalization(plan.splits, splits["train"])), make_order(plan)
        everywhere = plan.layout.replicated
        arguments = (put_split(splits["train"], everywhere), order.order(0), jax.device_put(np.int32(0), everywhere))
        batches[name] = functools.partial(_wait, jax.jit(load), arguments)
    plan = make_plan(apply_overrides(recipe, ["data.augment=", "devices=1"]))
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), plan.abstract_batch)
    state = jax.jit(state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0))()
    return functools.partial(_wait, jax.jit(plan.train_step), (state, jax.device_put(batch))), batches


def _wait(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import jax

    jax.block_until_ready(function(*arguments))
