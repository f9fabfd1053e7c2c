"""Layer-wise learning-rate decay and the linear scaling rule: layers of a model, their multipliers, and one step."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.models import lenet5, mlp
from jaxtrain.optim import sgd
from jaxtrain.optim.layer_decay import call_order, layer_decay_rules
from jaxtrain.optim.param_rules import path_name, values_by_path, with_rules
from jaxtrain.optim.schedules.base import linear_scaling
from jaxtrain.optim.schedules.decaying import cosine
from tests.conftest import examples


class Block(nn.Module):
    """Two dense layers and a scale parameter."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4, name="inner")(x) * self.param("scale", nn.initializers.ones, ())
        return x + nn.Dense(4, name="head")(x)


class Nested(nn.Module):
    """Modules called in another order than defined; one is called twice, one has no parameters, one is unused."""

    def setup(self) -> None:
        self.head = nn.Dense(3)
        self.unused = nn.Dense(5)
        self.second = Block()
        self.dropout = nn.Dropout(0.5)
        self.first = nn.Dense(4)
        self.temperature = self.param("temperature", nn.initializers.ones, ())

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = self.first(images.reshape(images.shape[0], -1)[:, :4])
        x = self.dropout(self.second(x), deterministic=not train)
        x = self.second(self.first(x))
        return self.head(x) * self.temperature


@pytest.mark.parametrize(
    ("model", "shape", "order"),
    [
        (lenet5(num_classes=10), (32, 32, 1), ("conv1", "conv2", "fc1", "fc2", "logits")),
        (mlp(num_classes=3, widths=(8, 6), dropout_rate=0.5), (4, 4, 1), ("fc1", "fc2", "logits")),
        (Nested(), (4, 4, 1), ("first", "second", "head")),
    ],
    ids=["lenet5", "mlp", "nested"],
)
def test_call_order_lists_layers_in_the_order_of_their_calls(model: nn.Module, shape: Any, order: tuple[str, ...]):
    assert call_order(model, shape) == order


def test_call_order_of_a_model_without_parameters_is_empty():
    class Mean(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return nn.Dropout(0.5, deterministic=not train)(images).mean(axis=(1, 2))

    assert call_order(Mean(), (4, 4, 3)) == ()


def test_layer_decay_halves_the_learning_rate_from_layer_to_layer():
    """Expected values by hand: each layer has half the rate of the next; other parameters keep the full rate."""
    model = Nested()
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), train=False))["params"]
    rules = layer_decay_rules(call_order(model, (4, 4, 1)), 0.5)
    values = values_by_path(rules, params, "here", all_used=True)
    found = {path_name(path): value for path, value in jax.tree_util.tree_leaves_with_path(values)}
    assert found == {
        "first/kernel": 0.25,
        "first/bias": 0.25,
        "second/inner/kernel": 0.5,
        "second/inner/bias": 0.5,
        "second/head/kernel": 0.5,
        "second/head/bias": 0.5,
        "second/scale": 0.5,
        "head/kernel": 1.0,
        "head/bias": 1.0,
        "temperature": 1.0,
    }


def test_layer_decay_rules_match_whole_layer_names_literally():
    rules = layer_decay_rules(["conv1", "a.b", "conv10"], 0.1)
    tree = {"conv1": {"k": 0}, "a.b": {"k": 0}, "conv10": {"k": 0}, "axb": {"k": 0}, "top": {"conv1": {"k": 0}}}
    values = values_by_path(rules, tree, "here")
    assert {name: jax.tree.leaves(value)[0] for name, value in values.items()} == {
        "conv1": pytest.approx(0.01),
        "a.b": pytest.approx(0.1),
        "conv10": 1.0,
        "axb": 1.0,
        "top": 1.0,
    }


@examples(50)
@given(st.lists(st.text("ab.+*(", min_size=1, max_size=4), unique=True, max_size=6), st.floats(0.01, 1))
def test_layer_decay_rules_handle_any_layer_name(names: list[str], decay: float):
    rules = layer_decay_rules(names, decay)
    assert rules[-1] == (".*", 1.0)
    for depth, name in enumerate(reversed(names)):
        path = f"{name}/kernel"
        value = next(value for pattern, value in rules if re.search(pattern, path))
        assert value == pytest.approx(decay**depth)


def test_sgd_step_with_layer_decay_scales_the_update_of_each_layer():
    model = mlp(num_classes=2, widths=(3,))
    rules = layer_decay_rules(call_order(model, (2, 2, 1)), 0.25)
    params = {"fc1": {"kernel": jnp.zeros((4, 3))}, "logits": {"kernel": jnp.zeros((3, 2))}}
    tx = with_rules(sgd(1.0), rules, ((".*", 0.0),))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_array_equal(updates["fc1"]["kernel"], -0.25)
    np.testing.assert_array_equal(updates["logits"]["kernel"], -1.0)


def test_linear_scaling_multiplies_a_constant_rate_by_the_batch_ratio():
    """Goyal et al. 2017: 0.1 for a batch of 256 is 3.2 for one of 8192."""
    assert linear_scaling(0.1, batch_size=8192) == pytest.approx(3.2)
    assert linear_scaling(0.1, batch_size=32, base_batch_size=128) == pytest.approx(0.025)
    assert linear_scaling(0.1, batch_size=256) == 0.1


def test_linear_scaling_multiplies_a_schedule_and_the_updates_of_sgd():
    """Scaling multiplies all values of the schedule, warm-up included, and so the updates of SGD."""
    schedule = cosine(0.1, total=20, warmup=5)
    scaled = linear_scaling(schedule, batch_size=64, base_batch_size=16)
    steps = jnp.arange(20)
    np.testing.assert_allclose(jax.vmap(scaled)(steps), 4 * jax.vmap(schedule)(steps), rtol=1e-6)
    updates = [optax.tree.norm(_step(sgd(rate))) for rate in (schedule, scaled)]
    np.testing.assert_allclose(updates[1], 4 * updates[0], rtol=1e-6)


def _step(tx: optax.GradientTransformationExtraArgs) -> Any:
    """Return the second update; the first has a learning rate of 0."""
    params = {"k": jnp.ones(3)}
    _, state = tx.update(params, tx.init(params), params)
    return tx.update(params, state, params)[0]
