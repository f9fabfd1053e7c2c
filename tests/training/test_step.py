"""The training step against a loop written in plain JAX, on one device and on eight."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxtrain.augment.geometry import flip_lr
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.data.epoch_shuffle import EpochShuffle
from jaxtrain.data.loader import Batch, TrainingLoader
from jaxtrain.data.memory import Arrays, put_split
from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.source import ArraySource
from jaxtrain.distributed.mesh import Layout, make_layout
from jaxtrain.distributed.sharded_step import shard_step
from jaxtrain.evaluation.evaluate import make_evaluate
from jaxtrain.models.perceptron import mlp
from jaxtrain.optim import sgd
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.schedules import as_schedule, cosine
from jaxtrain.optim.schedules.base import stateless_rate
from jaxtrain.random import host_generator, stream_key
from jaxtrain.training.metrics import NO_STEP, Totals, empty_totals
from jaxtrain.training.objective import Objective
from jaxtrain.training.state import TrainState, state_initializer
from jaxtrain.training.step import LoopStep, make_loop_step, make_train_step

N, B, SHAPE, CLASSES, SEED = 40, 16, (4, 4, 1), 3, 5
NORMALIZATION = Normalization((0.5,), (0.25,))
SOURCE = ArraySource(
    np.random.default_rng(0).integers(0, 256, (N, *SHAPE), np.uint8),
    np.random.default_rng(1).integers(0, CLASSES, N).astype(np.int32),
)


class Normed(nn.Module):
    """Dense, batch normalization and dropout: one needs the whole batch, one draws for each example."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dense(8, use_bias=False, name="fc1")(images.reshape(images.shape[0], -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.75, name="bn")(x))
        x = nn.Dropout(0.25, deterministic=not train)(x)
        return nn.Dense(CLASSES, name="logits")(x)


DROPPING = mlp(num_classes=CLASSES, widths=(8,), dropout_rate=0.25)


class Run(NamedTuple):
    """A run that is ready for dispatch."""

    dispatch: LoopStep
    shuffle: EpochShuffle
    arrays: Arrays
    layout: Layout
    start: Callable[[], TrainState]
    empty: Callable[[], Totals]


def build(model: nn.Module, devices: int = 1, rate: Any = 0.1, step: Any = None) -> Run:
    layout = make_layout(devices, B)
    everywhere = layout.replicated
    tx = sgd(rate, momentum=0.9, weight_decay=0.01)
    load = TrainingLoader(
        normalization=NORMALIZATION,
        augment=pipeline([flip_lr()]),
        key=functools.partial(stream_key, SEED, "augment"),
        batch_size=B,
        sharding=layout.batch,
    )
    devices = shard_step(layout)
    rates = stateless_rate(as_schedule(rate))
    step = step or make_train_step(Objective(model, cross_entropy()), tx, SEED)
    return Run(
        dispatch=devices.compile(make_loop_step(step, load, rates, devices), everywhere, streamed=False),
        shuffle=EpochShuffle(functools.partial(host_generator, SEED, "shuffle"), N, B, everywhere),
        arrays=put_split(SOURCE, everywhere),
        layout=layout,
        start=jax.jit(state_initializer(model, tx, SHAPE, SEED), out_shardings=everywhere),
        empty=jax.jit(empty_totals, out_shardings=everywhere),
    )


def train(run: Run, steps: int) -> tuple[TrainState, Totals]:
    state, totals = run.start(), run.empty()
    for t in range(steps):
        state, totals, tick = run.dispatch(state, totals, run.shuffle.order(t), run.arrays)
        tick.block_until_ready()  # queued collectives of emulated devices can deadlock
    return state, totals


def reference_key(name_crc: int, step: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), np.uint32(name_crc)), step)


SHUFFLE_CRC, AUGMENT_CRC = 0x33FE5971, 0xEB167A19
"""CRC-32 of "shuffle" and of "augment"; a change of a stream's name or hash fails here."""


def reference_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the batch of a step in numpy from keys only: order, flips, normalization."""
    orders = [np.random.RandomState([SEED, SHUFFLE_CRC, e]).permutation(N) for e in range(4)]
    indices = np.concatenate(orders)[step * B : (step + 1) * B]
    images = (SOURCE.images[indices] / 255 - 0.5) / 0.25
    for i in range(B):
        key = jax.random.fold_in(jax.random.fold_in(reference_key(AUGMENT_CRC, step), i), 0)
        if jax.random.bernoulli(key, 0.5):
            images[i] = images[i, :, ::-1]
    return images.astype(np.float32), SOURCE.labels[indices]


def plain_loss(params: Any, images: Any, labels: Any) -> jax.Array:
    x = images.reshape(images.shape[0], -1)
    x = jnp.maximum(x @ params["fc1"]["kernel"] + params["fc1"]["bias"][None], 0)
    logits = x @ params["logits"]["kernel"] + params["logits"]["bias"][None]
    right = (logits * jax.nn.one_hot(labels, CLASSES, dtype=jnp.float32)).sum(axis=1)
    return (jax.scipy.special.logsumexp(logits, axis=1) - right).mean()


@jax.jit
def plain_step(params: Any, velocity: Any, images: Any, labels: Any, rate: Any) -> Any:
    """Make a step of SGD with momentum 0.9 and weight decay 0.01, without flax and optax."""
    value, grads = jax.value_and_grad(plain_loss)(params, images, labels)
    grads = jax.tree.map(lambda g, p: g + 0.01 * p, grads, params)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
    return jax.tree.map(lambda p, v: p - rate * v, params, velocity), velocity, value


def test_five_training_steps_equal_a_loop_in_plain_jax():
    """Across an epoch's end (40 examples, batches of 16), with flips and a schedule. Summation order differs: 1e-6."""
    steps = 5
    run = build(mlp(num_classes=CLASSES, widths=(8,)), rate=cosine(0.2, total=steps))
    state, totals = train(run, steps)
    params = jax.device_get(run.start().params)
    velocity, losses = jax.tree.map(np.zeros_like, params), []
    for t in range(steps):
        rate = np.float32(0.1 * (1 + np.cos(np.pi * t / steps)))
        params, velocity, value = plain_step(params, velocity, *reference_batch(t), rate)
        losses.append(float(value))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), state.params, params)
    assert int(state.step) == steps
    total, count = totals.pairs["loss"]
    assert int(count) == int(totals.pairs["accuracy"][1]) == steps * B
    assert float(total) / int(count) == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(totals.learning_rate) == pytest.approx(float(rate), rel=1e-6)  # the rate of the latest step
    assert int(totals.first_bad) == NO_STEP


def test_the_optimizer_gets_value_gradient_and_value_function_for_line_searches():
    """value_fn returns the same value at the same parameters, with dropout too."""
    seen: dict[str, Any] = {}

    def update(grads: Any, state: Any, params: Any, **extra: Any) -> Any:
        seen.update(same=extra["grad"] is grads)
        values = (extra["value"], extra["value_fn"](params), extra["objective"].value(params))
        return jax.tree.map(jnp.zeros_like, grads), values

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    state = jax.jit(state_initializer(DROPPING, tx, SHAPE, SEED))()
    batch = Batch(*map(jnp.asarray, reference_batch(0)))
    state, pairs = jax.jit(make_train_step(Objective(DROPPING, cross_entropy()), tx, SEED))(state, batch)
    value, again, told = state.opt_state
    assert seen["same"]
    np.testing.assert_allclose(again, value, rtol=1e-6)
    np.testing.assert_allclose(told, value, rtol=1e-6)
    np.testing.assert_allclose(pairs["loss"][0] / B, value, rtol=1e-6)


def test_dropout_depends_on_seed_and_step_only():
    """With a learning rate of 0 only dropout changes between steps, so different losses mean different masks."""
    batch = Batch(*map(jnp.asarray, reference_batch(0)))
    tx = sgd(0.0)

    begin = jax.jit(state_initializer(DROPPING, tx, SHAPE, SEED))()
    steps = {seed: jax.jit(make_train_step(Objective(DROPPING, cross_entropy()), tx, seed)) for seed in (0, 1)}

    def loss(seed: int, step: int) -> float:
        return float(steps[seed](begin.replace(step=jnp.int32(step)), batch)[1]["loss"][0])

    losses = {(seed, step): loss(seed, step) for seed in (0, 1) for step in (0, 1)}
    assert len(set(losses.values())) == 4
    assert losses[1, 1] == loss(1, 1)


def test_batch_norm_statistics_follow_the_batches_and_evaluation_uses_them():
    tx = sgd(0.1)
    state = jax.jit(state_initializer(Normed(), tx, SHAPE, SEED))()
    step = jax.jit(make_train_step(Objective(Normed(), cross_entropy()), tx, SEED))
    mean, var = np.zeros(8), np.ones(8)
    for t in range(3):
        images, labels = reference_batch(t)
        hidden = images.reshape(B, -1) @ np.asarray(state.params["fc1"]["kernel"])
        mean, var = 0.75 * mean + 0.25 * hidden.mean(axis=0), 0.75 * var + 0.25 * hidden.var(axis=0)
        state, _ = step(state, Batch(images, labels))
    statistics = state.variables["batch_stats"]["bn"]
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-5)

    evaluate = make_evaluate(Normed(), cross_entropy(), NORMALIZATION, 16, make_layout(1, 1))
    arrays = put_split(SOURCE, make_layout(1, 1).replicated)
    p = jax.device_get(state.params)
    hidden = ((SOURCE.images / 255 - 0.5) / 0.25).reshape(N, -1) @ p["fc1"]["kernel"]
    hidden = (hidden - mean) / np.sqrt(var + 1e-5) * p["bn"]["scale"] + p["bn"]["bias"]
    logits = np.maximum(hidden, 0) @ p["logits"]["kernel"] + p["logits"]["bias"]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(N), SOURCE.labels]
    assert evaluate(state.params, state.variables, arrays)["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_first_bad_is_the_first_step_with_a_loss_that_is_not_finite():
    """Steps count from 1, as in records and checkpoints: the update that starts at step 2 is the third."""

    def failing(state: TrainState, batch: Batch) -> Any:
        loss = jnp.where((state.step == 2) | (state.step == 4), jnp.nan, 1.0)
        pair = (loss, jnp.int32(B))
        return state.replace(step=state.step + 1), {"loss": pair, "accuracy": pair}

    run = build(DROPPING, step=failing)
    assert [int(train(run, steps)[1].first_bad) for steps in (2, 3, 4, 6)] == [NO_STEP, 3, 3, 3]


def test_the_step_compiles_once_transfers_nothing_and_donates_its_state():
    traces = []
    plain = make_train_step(Objective(DROPPING, cross_entropy()), sgd(0.1, momentum=0.9, weight_decay=0.01), SEED)

    def counting_step(state: TrainState, batch: Batch) -> Any:
        traces.append(1)
        return plain(state, batch)

    run = build(DROPPING, step=counting_step)
    orders = [run.shuffle.order(t) for t in range(6)]  # the orders of more than two epochs
    state, totals = run.start(), run.empty()
    with jax.transfer_guard("disallow"):
        for order in orders:
            before = (state, totals.pairs)
            state, totals, tick = run.dispatch(state, totals, order, run.arrays)
            assert all(x.is_deleted() for x in jax.tree.leaves(before))
        assert len(traces) == run.dispatch._cache_size() == 1
        with pytest.raises(Exception, match="isallowed host-to-device"):  # the guard is active
            run.dispatch(state, totals, order._replace(offset=np.int32(0)), run.arrays)
    assert not tick.is_deleted()
    assert int(tick) == 6


@pytest.mark.parametrize(
    "model", [pytest.param(DROPPING, marks=pytest.mark.slow), Normed()], ids=["dropout", "batch-norm"]
)
def test_training_on_eight_devices_equals_training_on_one(model: nn.Module):
    """Ten steps with flips and dropout. Summation order differs: 1e-5 of each leaf's largest value."""
    (one, totals), (eight, others) = (train(build(model, devices), 10) for devices in (1, 8))
    assert len(jax.tree.leaves(eight.params)[0].sharding.device_set) == 8

    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(np.asarray(a)).max())

    jax.tree.map(close, (one.params, one.variables), jax.device_get((eight.params, eight.variables)))
    assert float(totals.pairs["loss"][0]) == pytest.approx(float(others.pairs["loss"][0]), rel=1e-5)
    assert int(others.pairs["loss"][1]) == 10 * B
