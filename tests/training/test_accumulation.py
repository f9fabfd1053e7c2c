"""Gradient accumulation over micro-batches, against optax.microbatch and the whole batch; and its memory."""

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


def evaluate(objective: Objective, params: Any, rest: Any = None, rngs: Any = None) -> tuple[ObjectiveResult, Any]:
    plain = jax.jit(lambda p, v: objective.value_and_gradient(p, v, BATCH, rngs or {}, lambda value: value))
    return plain(params, rest or {})


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7), a, b)


@pytest.fixture(params=slow_except(["unrolled", "loop"], "unrolled"))
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the micro-batches unrolled in the program, or in a loop."""
    if request.param == "loop":
        monkeypatch.setattr(unrolling, "MOST_UNROLLED", 0)
    return str(request.param)


def test_accumulated_gradient_equals_that_of_optax_microbatch(form: str) -> None:
    params = variables()["params"]

    def gradient(params: Any, images: Any, labels: Any) -> Any:
        return jax.grad(lambda p: LOSS(MODEL.apply({"params": p}, images, train=True), labels).sum() / N)(params)

    oracle = optax.microbatch(gradient, argnums=(1, 2), microbatch_size=2)
    expected = jax.jit(oracle)(params, *BATCH)
    _, grads = evaluate(Objective(MODEL, LOSS, (), 2, adds_gradients=True), params)
    assert_close(grads, expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", slow_except([4, 21, 22], 4))
def test_micro_batches_of_unequal_size_give_the_gradient_of_the_whole_batch(size: int, form: str) -> None:
    params = variables()["params"]
    key = {"dropout": jax.random.key(2)}
    model = mlp(num_classes=CLASSES, widths=(5,), dropout_rate=0.5)
    whole, parts = (
        evaluate(Objective(model, LOSS, (l2(0.1),), m, adds_gradients=True), params, rngs=key) for m in (None, size)
    )
    assert_close(parts, whole)


def test_gradient_accumulation_carries_batch_statistics_like_accumulation_of_values(form: str) -> None:
    state = variables(Counting())
    rest = {"batch_stats": state["batch_stats"]}
    again, added = (
        evaluate(Objective(Counting(), LOSS, (), 11, adds_gradients=adds), state["params"], rest)
        for adds in (False, True)
    )
    assert_close(added, again)


@pytest.mark.slow
def test_nan_parameters_give_a_nan_accumulated_gradient(form: str) -> None:
    params = jax.tree.map(lambda x: x.at[0].set(jnp.nan), variables()["params"])
    seen, grads = evaluate(Objective(MODEL, LOSS, (), 4, adds_gradients=True), params)
    assert not np.isfinite(seen.value)
    assert np.isnan(grads["logits"]["kernel"]).any()


@pytest.mark.slow
def test_a_nan_example_leaves_losses_and_logits_of_other_examples_unchanged(form: str) -> None:
    params = variables()["params"]
    lost = Batch(BATCH.images.at[0].set(jnp.nan), BATCH.labels)
    objective = Objective(MODEL, LOSS, (), 4, adds_gradients=True)
    seen, good = (
        jax.jit(lambda p, b: objective.value_and_gradient(p, {}, b, {}, lambda value: value))(params, batch)[0]
        for batch in (lost, BATCH)
    )
    assert np.isnan(seen.losses[0])
    assert_close(seen.losses[1:], good.losses[1:])
    assert_close(seen.logits[1:], good.logits[1:])


def test_optimizers_with_line_search_do_not_accumulate_gradients() -> None:
    """The value of a step must round like the values that a line search asks for."""
    data = tiny_config().data.replace(micro_batch=4, augment=())
    assert make_plan(tiny_config(data=data)).objective.adds_gradients
    full = data.replace(batch_size="all")
    search = tiny_config(data=full, model="mlp(widths=[8])", optimizer="lbfgs")
    assert not make_plan(search).objective.adds_gradients


class Convolutions(nn.Module):
    """Two convolutions; the activations kept for their gradient take most of the memory."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = images
        for width in (16, 16):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def test_four_micro_batches_need_less_than_40_percent_of_the_memory() -> None:
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
