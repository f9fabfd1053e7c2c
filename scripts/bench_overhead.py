#!/usr/bin/env python3
"""Steps a second of `jaxtrain train` in steady state, against a hand-written jitted JAX loop of the same run.

Both train the same MLP (784-512-512-10, or --widths) on the same uint8 images, held on the device and shuffled each
epoch, with the same SGD and momentum, logging loss and accuracy every 100 steps. Each measurement is a process of its
own; the two alternate, and the ratio of the medians is printed.

    python scripts/bench_overhead.py --rounds 7
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, EXAMPLES, LOG_EVERY, WARM = 32, 60_000, 100, 300
Widths = list[int]


def measure_jaxtrain(steps: int, widths: Widths) -> float:
    """Trains through the command line's own code path; steps a second between the marks of metrics.jsonl."""
    from jaxtrain.cli.main import main

    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "train",
            str(_config_file(Path(folder), widths)),
            f"train_for={steps + WARM} steps",
            "--workdir",
            str(Path(folder, "run")),
            "--quiet",
        ]
        if main(arguments) != 0:
            raise SystemExit("jaxtrain failed")
        rows = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    # images_per_second covers whole logging intervals, evaluation and saving excluded
    rates = [r["images_per_second"] / BATCH for r in rows if r["split"] == "train" and r["step"] > WARM]
    return len(rates) / sum(1 / r for r in rates)


def _config_file(folder: Path, widths: Widths) -> Path:
    text = f"""
from jaxtrain.config import *

def get_config():
    return Config(
        model=ModelSpec("mlp", widths={widths}),
        data=DataConfig(
            dataset=DatasetSpec("synthetic", like="mnist", test_examples=1000), batch_size={BATCH}, normalize="scale"
        ),
        optimizer=OptimizerSpec("sgd", learning_rate=0.01, momentum=0.9),
        train_for="1 steps",
        evaluation=EvaluationConfig(every="100 epochs"),
        checkpoint=CheckpointConfig(every="100 epochs"),
        logging=LoggingConfig(every="{LOG_EVERY} steps"),
    )
"""
    path = folder / "bench_config.py"
    path.write_text(text)
    return path


def measure_bare(steps: int, widths: Widths) -> float:
    """The loop that one would write by hand: no framework, no flax, no optax."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxtrain.data.sources.synthetic import synthetic

    split = synthetic(like="mnist", test_examples=1000).load("train")
    images, labels = jax.device_put(split.images), jax.device_put(split.labels)
    sizes = [784, *widths, 10]
    draw = np.random.RandomState(0)
    params = [
        {"w": jnp.asarray(draw.randn(m, n).astype(np.float32) * (2 / m) ** 0.5), "b": jnp.zeros(n, jnp.float32)}
        for m, n in itertools.pairwise(sizes)
    ]
    velocity = jax.tree.map(jnp.zeros_like, params)

    def loss_fn(params, x, y):  # type: ignore[no-untyped-def]
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        logits = x @ params[-1]["w"] + params[-1]["b"]
        loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()
        return loss, (logits.argmax(-1) == y).mean()

    def step(params, velocity, totals, order, i):  # type: ignore[no-untyped-def]
        index = jax.lax.dynamic_slice(order, (i * BATCH,), (BATCH,))
        x = images[index].reshape(BATCH, -1).astype(jnp.float32) / 255
        (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, x, labels[index])
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - 0.01 * v, params, velocity)
        return params, velocity, (totals[0] + loss, totals[1] + accuracy)

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    shuffle = jax.jit(lambda epoch: jax.random.permutation(jax.random.fold_in(jax.random.key(0), epoch), EXAMPLES))
    per_epoch = EXAMPLES // BATCH
    zero = (jnp.float32(0), jnp.float32(0))
    totals, waiting, seconds, began = jax.tree.map(jnp.copy, zero), None, 0.0, 0.0
    for t in range(WARM + steps):
        if t % per_epoch == 0:
            order = shuffle(t // per_epoch)
        if t == WARM:
            jax.block_until_ready(params)
            began = time.perf_counter()
        params, velocity, totals = step(params, velocity, totals, order, t % per_epoch)
        if (t + 1) % LOG_EVERY == 0:
            if waiting is not None:
                _ = [float(x) / LOG_EVERY for x in waiting]
            waiting, totals = totals, jax.tree.map(jnp.copy, zero)
    jax.block_until_ready(params)
    seconds = time.perf_counter() - began
    return steps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, alternating")
    parser.add_argument("--steps", type=int, default=4000, help="steps measured in each, after a warm-up")
    parser.add_argument("--widths", type=int, nargs="+", default=[512, 512], help="of the hidden layers")
    parser.add_argument("--only", choices=["jaxtrain", "bare"], help="one measurement, as a number on stdout")
    args = parser.parse_args()
    if args.only:
        measure = measure_jaxtrain if args.only == "jaxtrain" else measure_bare
        print(measure(args.steps, args.widths))
        return
    rates: dict[str, list[float]] = {"jaxtrain": [], "bare": []}
    for round_ in range(args.rounds):
        order = ["bare", "jaxtrain"] if round_ % 2 else ["jaxtrain", "bare"]
        for name in order:
            command = [sys.executable, __file__, "--only", name, "--steps", str(args.steps)]
            command += ["--widths", *map(str, args.widths)]
            output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
            rates[name].append(float(output.split()[-1]))
        print(f"round {round_}: jaxtrain {rates['jaxtrain'][-1]:.0f}, bare {rates['bare'][-1]:.0f} steps/s", flush=True)
    pairs = [a / b for a, b in zip(rates["jaxtrain"], rates["bare"], strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"median: jaxtrain {medians['jaxtrain']:.0f} [{min(rates['jaxtrain']):.0f}-{max(rates['jaxtrain']):.0f}], "
        f"bare {medians['bare']:.0f} [{min(rates['bare']):.0f}-{max(rates['bare']):.0f}] steps/s; "
        f"ratio of medians {medians['jaxtrain'] / medians['bare']:.3f}, "
        f"median of the pairs' ratios {statistics.median(pairs):.3f}"
    )


if __name__ == "__main__":
    main()
