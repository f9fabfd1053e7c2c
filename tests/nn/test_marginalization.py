"""Averages over random draws: exact for given keys and any chunk, and of models whose statistics stay unchanged."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.models import mlp
from jaxtrain.nn import draw_outputs, marginalize
from jaxtrain.nn.dropout import Dropout, dropout_given
from jaxtrain.nn.normalization import BatchNorm

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 20])
def test_marginalize_equals_the_mean_of_a_loop_for_any_chunk(chunk: int | None) -> None:
    def draw(key: jax.Array) -> dict[str, jax.Array]:
        value = jax.random.normal(key, (2,)) * X[0, 0]
        return {"value": value, "low": value.astype(jnp.bfloat16), "positive": value > 0}

    found = jax.jit(lambda k: marginalize(draw, k, chunk=chunk))(keys(7))
    each = [jax.device_get(draw(k)) for k in keys(7)]
    assert {x.dtype for x in found.values()} == {jnp.dtype("float32")}
    for name, value in found.items():
        close = {"rtol": 1e-5, "atol": 4e-3 if name == "low" else 1e-6}  # jit may round otherwise before bfloat16 does
        np.testing.assert_allclose(value, np.mean([e[name].astype(np.float64) for e in each], axis=0), **close)


def test_marginalize_refuses_no_keys_and_a_chunk_of_0() -> None:
    with pytest.raises(ValueError, match="got 0 keys"):
        marginalize(lambda k: jax.random.normal(k), keys(1)[:0])
    with pytest.raises(ValueError, match="got 2 keys and chunk=0"):
        marginalize(lambda k: jax.random.normal(k), keys(2), chunk=0)


def test_marginalize_over_all_masks_of_a_linear_net_equals_the_test_output() -> None:
    """Each key stands for one of 2^6 masks; at a rate of 1/2 all are equally likely."""
    gates = jnp.array(list(itertools.product([False, True], repeat=6)))
    known = {tuple(np.asarray(jax.random.key_data(k)).tolist()): i for i, k in enumerate(keys(64))}
    assert len(known) == 64
    table = jnp.asarray(jax.random.key_data(keys(64)))
    x, w = jnp.arange(1.0, 7), jnp.array([3.0, -5, 2, 7, -1, 4])

    def net(key: jax.Array) -> jax.Array:
        index = (table == jax.random.key_data(key)[None]).all(axis=1).argmax()
        return dropout_given(gates[index], x, 0.5) @ w

    np.testing.assert_allclose(marginalize(net, keys(64), chunk=16), x @ w, rtol=1e-6)


class Net(nn.Module):
    """A net with both batch normalizations and dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = BatchNorm(train=train, name="ours")(nn.Dense(8)(x))
        x = nn.BatchNorm(name="theirs", use_running_average=not train)(x)
        x = nn.BatchNorm(name="called", use_bias=False)(x, use_running_average=not train)
        return Dropout(train, 0.5)(x)


@pytest.mark.slow
def test_draw_outputs_uses_running_statistics_and_does_not_update_them() -> None:
    """Each kept value is twice the test output; statistics of the batch would give other values."""
    model, x = Net(), jnp.asarray(X)
    with jax.numpy_dtype_promotion("standard"):
        variables = model.init(jax.random.key(1), x, train=False)
        moved: Any = jax.tree.map(lambda v: v + 0.5, variables)
        tested = np.asarray(model.apply(moved, x, train=False))
        found = np.asarray(jax.jit(lambda k: draw_outputs(k, model, moved, x))(jax.random.key(2)))
    kept = found != 0
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(found[kept], 2 * tested[kept], rtol=1e-5)


@pytest.mark.slow
def test_monte_carlo_dropout_of_a_linear_model_converges_to_its_logits() -> None:
    """2,000 draws; the tolerance is six standard errors."""
    model = mlp(num_classes=3, widths=(6,), activation="identity", dropout_rate=0.5)
    images = jnp.asarray(X).reshape(4, 3, 1, 1)
    variables = model.init(jax.random.key(3), images, train=False)

    def moments(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = draw_outputs(key, model, variables, images)
        return logits, jnp.square(logits)

    mean, square = jax.jit(lambda k: marginalize(moments, k, chunk=500))(keys(2000))
    error = np.sqrt(np.asarray(square - mean**2) / 2000)
    assert (np.abs(mean - model.apply(variables, images, train=False)) < 6 * error).all()
    assert (error > 0).all()
