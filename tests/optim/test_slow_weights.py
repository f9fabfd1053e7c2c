"""Slow weights against Lookahead written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import sgd
from jaxtrain.optim.averages import evaluation_params
from jaxtrain.optim.lookahead import slow_weights


@pytest.mark.parametrize(("every", "decay", "power"), [(5, 0.95**5, 3.0), (3, 0.5, 0.0), (1, 0.9, 1.0)])
def test_slow_weights_equal_numpy(every: int, decay: float, power: float) -> None:
    total, rate, momentum = 17, 0.1, 0.9
    gradients = np.random.RandomState(0).normal(size=(total, 4))
    with jax.enable_x64(True):
        tx = optax.chain(sgd(rate, momentum=momentum), slow_weights(total=total, every=every, decay=decay, power=power))
        params = {"w": jnp.arange(4, dtype=jnp.float64)}
        state = tx.init(params)
        step = jax.jit(tx.update)
        x = slow = np.arange(4.0)
        velocity = np.zeros(4)
        for t, g in enumerate(gradients, 1):
            updates, state = step({"w": jnp.asarray(g)}, state, params)
            params = optax.apply_updates(params, updates)
            velocity = momentum * velocity + g  # synchronization does not reset the velocity
            x = x - rate * velocity
            if t % every == 0:
                share = decay * (t / total) ** power
                slow = share * slow + (1 - share) * x
                x = slow
            np.testing.assert_allclose(params["w"], x, rtol=1e-12)
            np.testing.assert_allclose(evaluation_params(state, params)["w"], slow, rtol=1e-12)
        assert step._cache_size() == 1


def test_slow_weights_of_bfloat16_parameters_are_kept_in_float32() -> None:
    tx = slow_weights(total=4, every=1)
    params = {"w": jnp.ones(3, jnp.bfloat16), "count": jnp.int32(3)}
    state = tx.init(params)
    updates, state = tx.update({"w": jnp.ones(3, jnp.bfloat16), "count": jnp.int32(1)}, state, params)
    assert state.slow["w"].dtype == jnp.float32
    assert updates["w"].dtype == jnp.bfloat16
    assert updates["count"] == 1
    assert evaluation_params(state, params)["w"].dtype == jnp.bfloat16


def test_slow_weights_refuse_zero_steps_and_missing_parameters() -> None:
    with pytest.raises(ValueError, match=r"total=0 .* at least 1 step"):
        slow_weights(total=0)
    tx = slow_weights(total=2)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update({"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)}))
