"""Time of one update by each first-order rule, beside the optax alias or chain that does the same work.

Both update the parameters of a ResNet-20 (59 arrays, 269,722 numbers) from given gradients, in one jitted step with
donated parameters and state, some updates in a row. Where optax has no such rule, the other side is the formula written
out in jax.numpy. `--of adam nesterov` chooses rules.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import measuring
from jaxtrain.optim import OPTIMIZERS

RATE, UPDATES = 1e-3, 10
Tree = Any


def resnet20() -> Tree:
    """Parameters of the shapes of a ResNet-20 for CIFAR-10 with parameter-free shortcuts."""
    widths = [(3, 16), *[(16, 16)] * 6, (16, 32), *[(32, 32)] * 5, (32, 64), *[(64, 64)] * 5]
    shapes: dict[str, Any] = {}
    for i, (inputs, outputs) in enumerate(widths):
        shapes[f"conv{i}"] = {"kernel": (3, 3, inputs, outputs)}
        shapes[f"norm{i}"] = {"scale": (outputs,), "bias": (outputs,)}
    shapes["dense"] = {"kernel": (64, 10), "bias": (10,)}
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)])


def written_out(
    formula: Callable[[jax.Array, Tree], tuple[jax.Array, Tree]], moments: int
) -> optax.GradientTransformation:
    """`formula(g, old moments) -> (step, new moments)` for each array, and nothing else."""

    def init(params: Tree) -> Tree:
        return tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(moments))

    def update(grads: Tree, state: Tree, params: Tree = None) -> Any:
        del params
        results = jax.tree.map(lambda g, *old: formula(g, old), grads, *state)
        steps, state = jax.tree.transpose(jax.tree.structure(grads), jax.tree.structure((0, (0,) * moments)), results)
        return jax.tree.map(lambda u: -RATE * u, steps), state

    return optax.GradientTransformation(init, update)


def uncorrected(g: jax.Array, old: Tree) -> Any:
    m, v = 0.9 * old[0] + (1 - 0.9) * g, 0.999 * old[1] + (1 - 0.999) * jnp.square(g)
    return m / (jnp.sqrt(v) + 1e-8), (m, v)


def powersign(g: jax.Array, old: Tree) -> Any:
    m = 0.9 * old[0] + (1 - 0.9) * g
    return jnp.exp(jnp.sign(g) * jnp.sign(m)) * g, (m,)


def addsign(g: jax.Array, old: Tree) -> Any:
    m = 0.9 * old[0] + (1 - 0.9) * g
    return (1 + jnp.sign(g) * jnp.sign(m)) * g, (m,)


def decayed() -> optax.GradientTransformation:
    return optax.add_decayed_weights(0.01)


def pairs() -> dict[str, tuple[str, dict[str, Any], optax.GradientTransformation]]:
    """Name of the row -> name of the rule, its options, and the other side."""
    rate, schedule = optax.scale_by_learning_rate(RATE), optax.cosine_decay_schedule(RATE, 1000)
    rms: dict[str, Any] = {"decay": 0.9, "eps": 1e-7, "eps_in_sqrt": False}
    return {
        "sgd": ("sgd", {}, optax.sgd(RATE)),
        "sgd, momentum, L2": (
            "sgd",
            {"momentum": 0.9, "weight_decay": 0.01},
            optax.chain(decayed(), optax.sgd(RATE, momentum=0.9)),
        ),
        "sgd, schedule": ("sgd", {"learning_rate": schedule}, optax.sgd(schedule)),
        "momentum": ("momentum", {}, optax.chain(rate, optax.trace(0.9))),
        "momentum, outside": ("momentum", {"lr_placement": "outside"}, optax.sgd(RATE, momentum=0.9)),
        "nesterov": ("nesterov", {}, optax.chain(rate, optax.trace(0.9, nesterov=True))),
        "adagrad": ("adagrad", {}, optax.adagrad(RATE, initial_accumulator_value=0.0, eps=1e-7)),
        "rmsprop": ("rmsprop", {}, optax.rmsprop(RATE, **rms)),
        "rmsprop, centered": ("rmsprop", {"centered": True}, optax.rmsprop(RATE, centered=True, **rms)),
        "rmsprop, momentum": (
            "rmsprop",
            {"momentum": 0.9, "lr_placement": "inside"},
            optax.rmsprop(RATE, momentum=0.9, **rms),
        ),
        "adadelta": ("adadelta", {}, optax.adadelta(RATE, rho=0.9, eps=1e-6)),
        "adam": ("adam", {}, optax.adam(RATE)),
        "adam, L2": ("adam", {"weight_decay": 0.01}, optax.chain(decayed(), optax.adam(RATE))),
        "adam, amsgrad": ("adam", {"amsgrad": True}, optax.amsgrad(RATE)),
        "adam_uncorrected": ("adam_uncorrected", {}, written_out(uncorrected, 2)),
        "adamw": ("adamw", {}, optax.adamw(RATE, weight_decay=0.01)),
        "adamw, by schedule": (
            "adamw",
            {"learning_rate": schedule, "decoupling": "schedule", "peak": RATE},
            optax.adamw(schedule, weight_decay=0.01 / RATE),
        ),
        "nadam": ("nadam", {}, optax.nadam(RATE)),
        "nadam, warmed up": ("nadam", {"momentum_decay": 0.004}, optax.nadam(RATE)),
        "powersign": ("powersign", {"base": math.e}, written_out(powersign, 1)),
        "addsign": ("addsign", {}, written_out(addsign, 1)),
        "lion": ("lion", {"weight_decay": 0.01}, optax.lion(RATE, weight_decay=0.01)),
    }


def _updates(tx: optax.GradientTransformation, params: Tree, grads: Tree) -> measuring.Measure:
    """Microseconds of one update."""

    def step(params: Tree, state: Tree, grads: Tree) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    held = compiled(jax.tree.map(jnp.copy, params), tx.init(params), grads)
    jax.block_until_ready(held)

    def advance(steps: int) -> None:
        nonlocal held
        for _ in range(steps):
            held = compiled(*held, grads)
        jax.block_until_ready(held)

    return lambda: 1e6 / measuring.speed(advance, UPDATES)


def run(args: argparse.Namespace) -> list[str]:
    """Prints each row when it is complete."""
    params = resnet20()
    grads = jax.tree.map(lambda x: jnp.roll(x, 1), params)
    print("| rule | jaxtrain, us | optax, us | ratio | of the least |", "| --- " * 5 + "|", sep="\n", flush=True)
    for row, (name, options, other) in pairs().items():
        if args.of and name not in args.of:
            continue
        ours = OPTIMIZERS.create(name, **({"learning_rate": RATE} | options))
        found = measuring.in_turns(
            {"jaxtrain": _updates(ours, params, grads), "optax": _updates(other, params, grads)}, args.rounds
        )
        ratio = statistics.median(a / b for a, b in zip(found["jaxtrain"], found["optax"], strict=True))
        medians = " | ".join(f"{statistics.median(times):.1f}" for times in found.values())
        print(f"| {row} | {medians} | {ratio:.3f} | {min(found['jaxtrain']) / min(found['optax']):.3f} |", flush=True)
    return []
