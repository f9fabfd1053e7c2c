"""Loss scaling: unscaled gradients, skipped steps, and a scale that is halved and doubled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import adam
from jaxtrain.optim.loss_scale import LEAST, MOST, loss_scale_state, with_loss_scale

PARAMS = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(-0.0)}
GRADS = {"w": jnp.asarray([0.5, 0.25]), "b": jnp.asarray(2.0)}
BAD = {"w": jnp.asarray([jnp.inf, 1.0]), "b": jnp.asarray(2.0)}


def scaled(grads: Any, state: Any) -> Any:
    return jax.tree.map(lambda g: g * state.scale, grads)


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_loss_scale_passes_unscaled_gradients_to_the_inner_optimizer() -> None:
    plain, wrapped = adam(0.1), with_loss_scale(adam(0.1))
    inside, state = plain.init(PARAMS), wrapped.init(PARAMS)
    for _ in range(3):
        expected, inside = plain.update(GRADS, inside, PARAMS)
        found, state = wrapped.update(scaled(GRADS, state), state, PARAMS)
        same(found, expected)  # to the bit, since scales are powers of 2
    same(state.inner, inside)


def test_loss_scale_skips_an_overflowing_step_and_halves_the_scale() -> None:
    tx = with_loss_scale(adam(0.1))
    state = tx.init(PARAMS)
    _, state = tx.update(scaled(GRADS, state), state, PARAMS)
    updates, after = tx.update(BAD, state, PARAMS)
    same(updates, jax.tree.map(jnp.zeros_like, PARAMS))
    same(after.inner, state.inner)
    assert float(after.scale) == float(state.scale) / 2
    assert (int(after.good), int(after.skipped)) == (0, 1)


def test_loss_scale_doubles_after_an_interval_of_finite_steps() -> None:
    tx = with_loss_scale(optax.sgd(0.1), start=4.0, interval=3)
    state = tx.init(PARAMS)
    scales = []
    for grads in (GRADS, GRADS, BAD, GRADS, GRADS, GRADS, GRADS):
        _, state = tx.update(scaled(grads, state), state, PARAMS)
        scales.append(float(state.scale))
    assert scales == [4, 4, 2, 2, 2, 4, 4]


@pytest.mark.parametrize(("start", "grads", "bound"), [(MOST, GRADS, MOST), (LEAST, BAD, LEAST)])
def test_loss_scale_stays_within_its_bounds(start: float, grads: Any, bound: float) -> None:
    tx = with_loss_scale(optax.sgd(0.1), start=start, interval=1)
    _, state = tx.update(grads, tx.init(PARAMS), PARAMS)
    assert float(state.scale) == bound


def test_loss_scale_forwards_extra_arguments_and_unscales_the_gradient() -> None:
    seen = {}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        seen.update(extra)
        return updates, state

    tx = with_loss_scale(optax.GradientTransformationExtraArgs(lambda _: (), update), start=8.0)
    state = tx.init(PARAMS)
    tx.update(scaled(GRADS, state), state, PARAMS, grad=scaled(GRADS, state), value=3.0)
    same(seen["grad"], GRADS)
    assert seen["value"] == 3.0


def test_loss_scale_state_is_found_in_a_nested_state() -> None:
    state = with_loss_scale(optax.sgd(0.1), start=16.0).init(PARAMS)
    found = loss_scale_state({"a": (state, 1)})
    assert found is not None
    assert float(found.scale) == 16
    assert loss_scale_state(optax.adam(0.1).init(PARAMS)) is None
