"""Gradients added up over micro-batches: those of optax.microbatch, of the whole batch, and in less memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxtrain.data.loader import Batch
from jaxtrain.models.perceptron import mlp
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.penalties import l2
from jaxtrain.training.objective import Objective, ObjectiveResult
from jaxtrain.training.plan import make_plan
from jaxtrain.xla_cpu import unrolling
from tests.conftest import tiny_config
from tests.levels import slow_except
from tests.training.test_objective import BATCH, CLASSES, MODEL, Counting, N, variables

LOSS = cross_entropy()


def found(objective: Objective, params: Any, rest: Any = None, rngs: Any = None) -> tuple[ObjectiveResult, Any]:
    plain = jax.jit(lambda p, v: objective.value_and_gradient(p, v, BATCH, rngs or {}, lambda value: value))
    return plain(params, rest or {})


def close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7), a, b)


@pytest.fixture(params=slow_except(["unrolled", "loop"], "unrolled"))
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Parts that follow each other in the program, and in a loop."""
    if request.param == "loop":
        monkeypatch.setattr(unrolling, "MOST_UNROLLED", 0)
    return str(request.param)


def test_the_gradient_is_that_of_optax_microbatch(form: str) -> None:
    params = variables()["params"]

    def gradient(params: Any, images: Any, labels: Any) -> Any:
        return jax.grad(lambda p: LOSS(MODEL.apply({"params": p}, images, train=True), labels).sum() / N)(params)

    oracle = optax.microbatch(gradient, argnums=(1, 2), microbatch_size=2)
    expected = jax.jit(oracle)(params, *BATCH)
    _, grads = found(Objective(MODEL, LOSS, (), 2, adds_gradients=True), params)
    close(grads, expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", slow_except([4, 21, 22], 4))
def test_the_gradient_is_that_of_the_whole_batch_where_parts_are_uneven_too(size: int, form: str) -> None:
    params = variables()["params"]
    key = {"dropout": jax.random.key(2)}
    model = mlp(num_classes=CLASSES, widths=(5,), dropout_rate=0.5)
    whole, parts = (
        found(Objective(model, LOSS, (l2(0.1),), m, adds_gradients=True), params, rngs=key) for m in (None, size)
    )
    close(parts, whole)


def test_statistics_go_from_part_to_part_as_in_the_other_way(form: str) -> None:
    state = variables(Counting())
    rest = {"batch_stats": state["batch_stats"]}
    again, added = (
        found(Objective(Counting(), LOSS, (), 11, adds_gradients=adds), state["params"], rest) for adds in (False, True)
    )
    close(added, again)


@pytest.mark.slow
def test_a_gradient_that_is_lost_stays_lost(form: str) -> None:
    params = jax.tree.map(lambda x: x.at[0].set(jnp.nan), variables()["params"])
    seen, grads = found(Objective(MODEL, LOSS, (), 4, adds_gradients=True), params)
    assert not np.isfinite(seen.value)
    assert np.isnan(grads["logits"]["kernel"]).any()


@pytest.mark.slow
def test_what_comes_of_the_other_examples_is_theirs_where_the_gradient_is_lost(form: str) -> None:
    params = variables()["params"]
    lost = Batch(BATCH.images.at[0].set(jnp.nan), BATCH.labels)
    objective = Objective(MODEL, LOSS, (), 4, adds_gradients=True)
    seen, good = (
        jax.jit(lambda p, b: objective.value_and_gradient(p, {}, b, {}, lambda value: value))(params, batch)[0]
        for batch in (lost, BATCH)
    )
    assert np.isnan(seen.losses[0])
    close(seen.losses[1:], good.losses[1:])
    close(seen.logits[1:], good.logits[1:])


def test_optimizers_that_compare_values_go_through_the_parts_twice() -> None:
    """So that the value of a step and those that a line search asks for round alike."""
    data = tiny_config().data.replace(micro_batch=4, augment=())
    assert make_plan(tiny_config(data=data)).objective.adds_gradients
    full = data.replace(batch_size="all")
    search = tiny_config(data=full, model="mlp(widths=[8])", optimizer="lbfgs")
    assert not make_plan(search).objective.adds_gradients


class Convolutions(nn.Module):
    """Two convolutions: what they keep for their gradient is most of the memory."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = images
        for width in (16, 16):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def test_a_quarter_of_the_batch_at_a_time_takes_a_quarter_of_the_memory() -> None:
    batch = Batch(jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32))
    model = Convolutions()
    params = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), batch.images)["params"]

    def temporaries(size: int | None) -> int:
        def gradient(params: Any, batch: Batch) -> Any:
            objective = Objective(model, LOSS, (), size, adds_gradients=True)
            return objective.value_and_gradient(params, {}, batch, {}, lambda value: value)[1]

        compiled = jax.jit(gradient).lower(params, batch).compile()
        size_in_bytes: int = compiled.memory_analysis().temp_size_in_bytes
        return size_in_bytes

    assert temporaries(16) < 0.4 * temporaries(None)
