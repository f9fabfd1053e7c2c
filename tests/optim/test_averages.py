"""Parameter averages against loops in numpy and torch's `AveragedModel`, and the parameters for evaluation."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import AVERAGES, sgd
from jaxtrain.optim.averages import ema, evaluation_params, has_average, polyak, swa
from tests.conftest import examples

STEPS = 20
_rng = np.random.default_rng(0)
PATH = np.cumsum(_rng.normal(size=(STEPS + 1, 3)), axis=0)
"""Parameters after 0, 1, ... updates."""

CASES: dict[str, Any] = {
    "polyak": lambda: polyak(0.8),
    "polyak-default": lambda: polyak(),
    "ema": lambda: ema(0.9),
    "ema-late": lambda: ema(0.8, start=5, every=3),
    "ema-biased": lambda: ema(0.9, debias=False),
    "ema-biased-late": lambda: ema(0.9, debias=False, start=4, every=2),
    "ema-warmup": lambda: ema(0.6, warmup=True),
    "ema-warmup-biased": lambda: ema(0.6, warmup=True, debias=False, every=2),
    "swa": lambda: swa(0),
    "swa-late": lambda: swa(7, every=4),
    "swa-never": lambda: swa(100),
}

OPTIONS: dict[str, dict[str, int]] = {"swa": {"start": 1}, "slow_weights": {"total": 9}}


@functools.cache
def evaluated(case: str) -> np.ndarray:
    """Return the evaluation parameters after 0, 1, ... updates."""
    with jax.enable_x64(True):
        tx = CASES[case]()

        def body(carry: Any, u: jax.Array) -> Any:
            x, state = carry
            (updates,), state = tx.update((u,), state, (x,), value=jnp.float32(0), unknown=None)
            x = x + updates
            return (x, state), evaluation_params(state, (x,))[0]

        def run(path: jax.Array) -> jax.Array:
            state = tx.init((path[0],))
            first = evaluation_params(state, (path[0],))[0]
            return jnp.concatenate([first[None], jax.lax.scan(body, (path[0], state), jnp.diff(path, axis=0))[1]])

        result = np.asarray(jax.jit(run)(jnp.asarray(PATH)))
    assert result.dtype == np.float64
    return result


def polyak_by_hand(decay: float) -> np.ndarray:
    average, out = PATH[0], [PATH[0]]
    for x in PATH[1:]:
        average = decay * average + (1 - decay) * x
        out.append(average)
    return np.array(out)


def debiased_by_hand(decay: float, start: int = 0, every: int = 1, warmup: bool = False) -> np.ndarray:
    total, product, n, out = np.zeros(3), 1.0, 0, [PATH[0]]
    for t in range(1, STEPS + 1):
        if t >= start and (t - start) % every == 0:
            d = min(decay, (1 + n) / (10 + n)) if warmup else decay
            total, product, n = d * total + (1 - d) * PATH[t], product * d, n + 1
        out.append(total / (1 - product) if n else PATH[t])
    return np.array(out)


def biased_by_hand(decay: float, start: int = 0, every: int = 1, warmup: bool = False) -> np.ndarray:
    """The average is first a copy of the parameters after `start` updates."""
    average, n, out = (PATH[0] if start == 0 else None), 0, [PATH[0]]
    for t in range(1, STEPS + 1):
        if t >= start and (t - start) % every == 0:
            d = min(decay, (1 + n) / (10 + n)) if warmup else decay
            average, n = PATH[t] if average is None else d * average + (1 - d) * PATH[t], n + 1
        out.append(PATH[t] if average is None else average)
    return np.array(out)


def swa_by_hand(start: int, every: int = 1) -> np.ndarray:
    out = [PATH[0]]
    for t in range(1, STEPS + 1):
        taken = [PATH[i] for i in range(max(start, 1), t + 1) if (i - start) % every == 0]
        out.append(np.mean(taken, axis=0) if taken else PATH[t])
    return np.array(out)


BY_HAND: dict[str, Any] = {
    "polyak": lambda: polyak_by_hand(0.8),
    "polyak-default": lambda: polyak_by_hand(0.995),
    "ema": lambda: debiased_by_hand(0.9),
    "ema-late": lambda: debiased_by_hand(0.8, 5, 3),
    "ema-biased": lambda: biased_by_hand(0.9),
    "ema-biased-late": lambda: biased_by_hand(0.9, 4, 2),
    "ema-warmup": lambda: debiased_by_hand(0.6, warmup=True),
    "ema-warmup-biased": lambda: biased_by_hand(0.6, every=2, warmup=True),
    "swa": lambda: swa_by_hand(0),
    "swa-late": lambda: swa_by_hand(7, 4),
    "swa-never": lambda: PATH,
}


@pytest.mark.parametrize("case", CASES)
def test_average_equals_numpy(case: str):
    # 20 steps of numbers near 5: some ulps of 1e-15
    np.testing.assert_allclose(evaluated(case), BY_HAND[case](), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("case", "first", "every", "decay"),
    [("swa", 1, 1, None), ("swa-late", 7, 4, None), ("ema-biased-late", 4, 2, 0.9), ("polyak", 0, 1, 0.8)],
)
def test_average_equals_torch_averaged_model(case: str, first: int, every: int, decay: float | None):
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim.swa_utils")
    swa_utils = torch.optim.swa_utils
    model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    averaging = {} if decay is None else {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(decay)}
    average = swa_utils.AveragedModel(model, **averaging)
    for t in range(first, STEPS + 1):
        model.weight.data[:] = torch.tensor(PATH[t])
        if (t - first) % every == 0:
            average.update_parameters(model)
        theirs = average.module.weight.detach().numpy()[0]
        np.testing.assert_allclose(evaluated(case)[t], theirs, rtol=1e-13, atol=1e-13)


def mixed() -> Any:
    """Several dtypes, a scalar, a whole number, and a parameter that something outside has masked."""
    return {
        "a": {"kernel": jnp.ones((2, 3))},
        "b": (jnp.ones(4, jnp.bfloat16), jnp.ones(())),
        "count": jnp.int32(3),
        "masked": optax.MaskedNode(),
    }


def mixed_updates() -> Any:
    return jax.tree.map(lambda x: jnp.full_like(x, 0.5 if jnp.issubdtype(x.dtype, jnp.inexact) else 0), mixed())


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x), x.weak_type), tree)


@pytest.mark.parametrize("name", sorted(set(AVERAGES.names()) - {"slow_weights"}))  # which changes updates
def test_average_passes_updates_through_and_keeps_its_state_structure(name: str):
    """Updates pass through as they are; the state keeps its structure; averages are made in float32 at least."""
    tx = AVERAGES.create(name, **OPTIONS.get(name, {}))
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    params, updates = mixed(), mixed_updates()
    state = jax.jit(tx.init)(params)
    step = jax.jit(lambda s, p: tx.update(updates, s, p, value=jnp.float32(1)))
    for _ in range(3):
        same, after = step(state, params)
        assert kinds(after) == kinds(state)
        jax.tree.map(np.testing.assert_array_equal, same, updates)
        params, state = optax.apply_updates(params, updates), after
    assert step._cache_size() == 1
    assert {x.dtype for x in jax.tree.leaves(state.average)} == {jnp.dtype(jnp.float32)}
    averaged = evaluation_params(state, params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), averaged) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert averaged["count"] == 3
    assert np.all((averaged["a"]["kernel"] > 1) & (averaged["a"]["kernel"] < params["a"]["kernel"]))
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(updates, state)


@pytest.mark.slow
def test_swa_of_bfloat16_parameters_is_kept_in_float32():
    """A mean of 1 and 1 + 1/128 lies between two neighbors of bfloat16: the average holds it."""
    tx = swa(1)
    params = {"k": jnp.ones((), jnp.bfloat16)}
    state = tx.init(params)
    for update in (0.0, 1 / 128):
        updates = {"k": jnp.asarray(update, jnp.bfloat16)}
        _, state = tx.update(updates, state, params)
    assert float(state.average["k"]) == 1 + 1 / 256
    assert state.evaluation_params(params)["k"].dtype == jnp.bfloat16


@examples(30)
@given(value=st.floats(-1e3, 1e3, width=32, allow_subnormal=False), decay=st.floats(0, 0.99999))
def test_average_of_constant_parameters_equals_them_bitwise(value: float, decay: float):
    """Bitwise in float32, after 2000 updates."""
    x = jnp.full((2,), value, jnp.float32)
    for average in _constant(x, jnp.float32(decay)):
        np.testing.assert_array_equal(average, x)


@jax.jit
def _constant(x: jax.Array, decay: jax.Array) -> list[jax.Array]:
    averages = []
    for tx in (polyak(decay), ema(decay), ema(decay, warmup=True), ema(decay, debias=False), swa(3, every=2)):  # type: ignore[arg-type]
        state = jax.lax.fori_loop(
            0, 2000, lambda _, s, tx=tx: tx.update(jnp.zeros_like(x), s, x)[1], tx.init(x), unroll=False
        )
        averages.append(evaluation_params(state, x))
    return averages


def test_swa_ignores_nan_parameters_before_its_start():
    """The parameters are NaN before the average starts."""
    tx = swa(2)
    params = jnp.float32(0)
    state = tx.init(params)
    for update in (jnp.float32(np.nan), jnp.float32(2), jnp.float32(4)):
        _, state = tx.update(update, state, params)
    assert evaluation_params(state, params) == 3


@pytest.mark.slow
def test_ema_works_under_vmap():
    tx = ema(0.5)
    params = jnp.arange(4.0)
    state = jax.vmap(tx.init)(params)
    _, state = jax.vmap(tx.update)(jnp.ones(4), state, params)
    np.testing.assert_array_equal(jax.vmap(evaluation_params)(state, params), params + 1)


def test_polyak_state_and_parameters_can_both_be_donated():
    tx = optax.chain(sgd(0.5), polyak(0.5))
    params = {"k": jnp.ones(3)}
    step = jax.jit(lambda p, s: tx.update(p, s, p), donate_argnums=(0, 1))
    _, state = step(params, tx.init(params))
    np.testing.assert_array_equal(evaluation_params(state, {"k": jnp.zeros(3)})["k"], 0.75)


def test_swa_refuses_a_cycle_of_zero_steps():
    with pytest.raises(ValueError, match="at least 1 step"):
        swa(10, every=0)


# Evaluation parameters from the state of a whole optimizer.


class Tenfold(NamedTuple):
    """A state with `evaluation_params` of its own and an average inside."""

    inner: Any

    def evaluation_params(self, params: Any) -> Any:
        return jax.tree.map(lambda p: 10 * p, params)


def test_evaluation_params_without_an_average_are_the_parameters():
    params = mixed()
    state = sgd(0.1, momentum=0.9).init({"k": jnp.ones(3)})
    assert evaluation_params(state, params) is params
    assert not has_average(state)


def test_evaluation_params_use_the_outermost_average():
    params = {"k": jnp.ones(3)}
    state = (optax.EmptyState(), {"deep": [Tenfold(inner=polyak().init(params))]})
    assert has_average(state)
    np.testing.assert_array_equal(evaluation_params(state, params)["k"], 10.0)


def test_evaluation_params_refuse_two_averages():
    params = {"k": jnp.ones(3)}
    state = optax.chain(sgd(0.1), polyak(), optax.chain(ema())).init(params)
    with pytest.raises(ValueError, match=r"keeps 2 averages .*AverageState, AverageState"):
        evaluation_params(state, params)


@pytest.mark.parametrize("name", AVERAGES.names())
def test_averages_are_found_in_abstract_states(name: str):
    tx = optax.chain(sgd(0.1), AVERAGES.create(name, **OPTIONS.get(name, {})))
    params = mixed()
    state = jax.eval_shape(tx.init, params)
    assert has_average(state)
    found = jax.eval_shape(evaluation_params, state, params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), params)


def test_evaluation_params_complete_an_average_of_masked_parameters():
    """`optax.masked` hands the average a tree with gaps."""
    tx = optax.masked(swa(1), {"k": True, "b": False})
    params = {"k": jnp.ones(2), "b": jnp.full(2, 7.0)}
    _, state = tx.update({"k": jnp.ones(2), "b": jnp.ones(2)}, tx.init(params), params)
    averaged = evaluation_params(state, params)
    np.testing.assert_array_equal(averaged["k"], 2.0)
    np.testing.assert_array_equal(averaged["b"], 7.0)
