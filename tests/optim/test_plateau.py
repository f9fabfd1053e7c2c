"""The plateau against torch's ReduceLROnPlateau, and inside optimizers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import momentum, sgd
from jaxtrain.optim.schedules import Plateau, observe_plateau, plateau, plateau_state, with_plateau
from tests.conftest import examples

COUNT = 30


def observed(controller: Plateau, metrics: np.ndarray, higher: bool) -> np.ndarray:
    """The learning rate after each metric."""

    def body(state: Any, metric: jax.Array) -> Any:
        state = controller.observe(state, metric, higher_is_better=higher)
        return state, controller.value(state, 0)

    with jax.enable_x64(True):
        return np.asarray(jax.lax.scan(body, controller.init(), jnp.asarray(metrics))[1])


@examples(25)  # each is compiled
@given(
    metrics=st.lists(st.integers(1, 12), min_size=COUNT, max_size=COUNT),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.3]),
    mode=st.sampled_from(["relative", "absolute"]),
    higher=st.booleans(),
    end=st.sampled_from([0.0, 0.03]),
)
def test_plateau_equals_torch_reduce_lr_on_plateau(
    metrics: list[int], patience: int, cooldown: int, threshold: float, mode: Any, higher: bool, end: float
):
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim.lr_scheduler")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if higher else "min",
        factor=0.5,
        patience=patience,
        threshold=threshold,
        threshold_mode={"relative": "rel", "absolute": "abs"}[mode],
        cooldown=cooldown,
        min_lr=end,
    )
    expected = []
    for metric in metrics:
        theirs.step(metric)
        expected.append(optimizer.param_groups[0]["lr"])
    controller = plateau(
        0.4, factor=0.5, patience=patience, threshold=threshold, threshold_mode=mode, cooldown=cooldown, end=end
    )
    np.testing.assert_allclose(observed(controller, np.asarray(metrics, float), higher), expected, rtol=1e-12)


def test_plateau_treats_a_nan_metric_as_no_improvement():
    rates = observed(plateau(1.0, factor=0.1, patience=1), np.array([1.0, np.nan, np.nan, 0.5]), False)
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1])
    late = observed(plateau(1.0, factor=0.1, patience=5), np.array([np.nan, 2.0, 1.0]), False)
    np.testing.assert_allclose(late, [1, 1, 1])


def test_plateau_rate_reaches_the_velocity_of_momentum():
    """With the rate inside the velocity, a reduction affects new gradients only; outside, the whole velocity."""
    controller = plateau(1.0, factor=0.1, patience=0, warmup=0)
    for make, expected in (
        (lambda rate: momentum(rate, momentum=0.5), -(0.5 * 1 + 0.1)),
        (lambda rate: sgd(rate, momentum=0.5), -(0.1 * 1.5)),
    ):
        tx = with_plateau(make, controller)
        x = jnp.float32(0)
        state = tx.init(x)
        step = jax.jit(lambda s, tx=tx: tx.update(jnp.float32(1), s, jnp.float32(0)))
        updates, state = step(state)
        assert updates == -1
        tell = jax.jit(lambda s, m: observe_plateau(controller, s, m, higher_is_better=False))
        for metric in (1.0, 1.0):
            state = tell(state, metric)
        updates, after = step(state)
        np.testing.assert_allclose(updates, expected, rtol=1e-6)
        assert jax.tree.structure(after) == jax.tree.structure(state)


def test_plateau_state_is_found_in_a_chain_or_reported_missing():
    controller = plateau(0.1, patience=0)
    tx = optax.chain(optax.clip(1.0), with_plateau(lambda rate: sgd(rate), controller))
    state = tx.init(jnp.zeros(2))
    for metric in (1.0, 2.0):
        state = observe_plateau(controller, state, metric, higher_is_better=False)
    np.testing.assert_allclose(plateau_state(state).rate, 0.01, rtol=1e-6)
    with pytest.raises(ValueError, match="no plateau"):
        plateau_state(sgd(0.1).init(jnp.zeros(2)))


def test_plateau_begins_with_a_warm_up_and_refuses_use_as_a_schedule():
    controller = plateau(0.4, warmup=10)
    np.testing.assert_allclose([controller.value(controller.init(), t) for t in (0, 5, 10, 99)], [0, 0.2, 0.4, 0.4])
    with pytest.raises(ValueError, match="with_plateau"):
        sgd(controller).update(jnp.ones(1), sgd(controller).init(jnp.ones(1)), jnp.ones(1))
    with pytest.raises(ValueError, match="end=1 is above"):
        plateau(0.1, end=1)
