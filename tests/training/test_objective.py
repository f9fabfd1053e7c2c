"""The objective gives the same numbers on the whole batch, in micro-batches and by workers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from jaxtrain.data.loader import Batch
from jaxtrain.models.perceptron import mlp
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.penalties import l2
from jaxtrain.training.objective import Objective
from tests.levels import slow_except

N, CLASSES = 22, 3
RNG = np.random.default_rng(3)
BATCH = Batch(
    jnp.asarray(RNG.normal(size=(N, 2, 2, 1)), jnp.float32), jnp.asarray(RNG.integers(0, CLASSES, N), jnp.int32)
)
MODEL = mlp(num_classes=CLASSES, widths=(5,))


@functools.cache
def variables(model: nn.Module = MODEL) -> dict[str, Any]:
    return dict(jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), BATCH.images))


def value(objective: Objective, params: Any) -> jax.Array:
    logits, _ = objective.outputs(params, {}, BATCH.images, {})
    return objective.loss(logits, BATCH.labels).mean() + objective.penalty(params)


def outputs(objective: Objective, params: Any, images: jax.Array, rngs: Any = None) -> jax.Array:
    """Return the logits in training mode, from one compiled program."""
    return jax.jit(lambda p, x, r: objective.outputs(p, {}, x, r)[0])(params, images, rngs or {})


@functools.cache
def value_and_gradient(size: int | None) -> Any:
    objective = Objective(MODEL, cross_entropy(), (l2(0.1),), size)
    return jax.jit(jax.value_and_grad(functools.partial(value, objective)))(variables()["params"])


@pytest.mark.parametrize("size", slow_except([1, 4, 11, 21, 22, 100], 4, 21))
def test_micro_batches_give_the_value_and_gradient_of_the_whole_batch(size: int) -> None:
    """22 examples give 6 micro-batches of 4 with two examples repeated; the repeated examples must count once."""
    whole, parts = value_and_gradient(None), value_and_gradient(size)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), parts[1], whole[1])


def test_micro_batches_give_the_hessian_vector_product_of_the_whole_batch() -> None:
    params = variables()["params"]
    tangent = jax.tree.map(jnp.cos, params)

    def product(size: int | None) -> Any:
        grad = jax.grad(functools.partial(value, Objective(MODEL, cross_entropy(), (), size)))
        return jax.jit(lambda p: jax.jvp(grad, (p,), (tangent,))[1])(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), product(4), product(None))


@pytest.mark.parametrize("size", slow_except([4, 11], 4))
@pytest.mark.parametrize("options", [{"dropout_rate": 0.5}, {"dropconnect_rate": 0.5}], ids=lambda o: next(iter(o)))
def test_micro_batches_draw_the_dropout_masks_of_the_whole_batch(options: dict[str, float], size: int) -> None:
    dropping = mlp(num_classes=CLASSES, widths=(5,), **options)
    same = jnp.ones_like(BATCH.images)
    params = variables()["params"]
    parts, whole = (
        outputs(Objective(dropping, cross_entropy(), (), m), params, same, {"dropout": jax.random.key(0)})
        for m in (size, None)
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-7)
    assert len(np.unique(np.asarray(whole).round(5), axis=0)) > 6  # the largest number of micro-batches


def test_micro_batches_keep_the_order_of_the_examples() -> None:
    params = variables()["params"]
    plain = outputs(Objective(MODEL, cross_entropy(), (), 5), params, BATCH.images)
    whole = outputs(Objective(MODEL, cross_entropy()), params, BATCH.images)
    np.testing.assert_allclose(plain, whole, rtol=1e-6, atol=1e-7)


class Counting(nn.Module):
    """A module with a running mean of its inputs, as BatchNorm has."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        flat = images.reshape(images.shape[0], -1)
        seen = self.variable("batch_stats", "mean", lambda: jnp.zeros(4))
        if train:
            seen.value = 0.5 * seen.value + 0.5 * flat.mean(axis=0)
        return nn.Dense(CLASSES)(flat)


def test_batch_statistics_carry_over_from_one_micro_batch_to_the_next() -> None:
    state = variables(Counting())
    _, after = Objective(Counting(), cross_entropy(), (), 11).outputs(
        state["params"], {"batch_stats": state["batch_stats"]}, BATCH.images, {}
    )
    mean = np.zeros(4)
    for part in range(2):
        mean = 0.5 * mean + 0.5 * np.asarray(BATCH.images[part::2]).reshape(11, 4).mean(axis=0)
    np.testing.assert_allclose(after["batch_stats"]["mean"], mean, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_workers_split_the_batch_and_use_their_own_parameters() -> None:
    params = variables()["params"]
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    objective = Objective(MODEL, cross_entropy(), (l2(0.1),))
    values = jax.jit(lambda p, b: objective.worker_values(p, {}, b, {}))(stacked, BATCH)
    for worker, factor in enumerate((1.0, 2.0)):
        own = jax.tree.map(lambda x, f=factor: f * x, params)
        part = Batch(BATCH.images[worker::2], BATCH.labels[worker::2])
        logits = MODEL.apply({"params": own}, part.images, train=True)
        expected = cross_entropy()(logits, part.labels).mean() + l2(0.1)(own)
        np.testing.assert_allclose(values[worker], expected, rtol=1e-6)


def test_worker_values_refuse_a_batch_that_does_not_divide_evenly() -> None:
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 4), variables()["params"])
    with pytest.raises(ValueError, match="22 examples does not divide evenly among 4 workers"):
        Objective(MODEL, cross_entropy()).worker_values(stacked, {}, BATCH, {})


def test_micro_batches_of_a_sharded_batch_need_no_communication() -> None:
    """Micro-batches of a batch sharded over devices are sharded the same way; no example moves to another device."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    images = jax.device_put(jnp.ones((16, 2, 2, 1)), NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(variables()["params"], NamedSharding(mesh, PartitionSpec()))
    objective = Objective(MODEL, cross_entropy(), (), 4)
    compiled = jax.jit(lambda p, x: objective.outputs(p, {}, x, {})[0]).lower(params, images).compile()
    text = compiled.as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text
