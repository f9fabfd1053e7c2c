"""LayerBuilder: normalizations by name, padding, and refused sizes."""

import dataclasses
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.nn.layers import BlockOptions, LayerBuilder
from jaxtrain.nn.normalization import Norm

X = np.random.default_rng(0).normal(3, 2, size=(4, 5, 6, 64)).astype(np.float32)


class Applied(nn.Module):
    """One call of a method of `LayerBuilder`."""

    layers: LayerBuilder
    method: str
    arguments: tuple[Any, ...] = ()
    options: Any = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        result: jax.Array = getattr(self.layers, self.method)(x, *self.arguments, **dict(self.options))
        return result


def over(kind: Norm) -> np.ndarray:
    """`X` normalized in float64."""
    x = X.astype(np.float64)
    if kind == "group":
        x = x.reshape(4, 5, 6, 32, 2)
    axes = {"batch": (0, 1, 2), "layer": (1, 2, 3), "instance": (1, 2), "group": (1, 2, 4)}[kind]
    normal = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + 1e-5)
    return normal.reshape(X.shape)


@pytest.mark.parametrize("kind", ["batch", "layer", "instance", "group"])
def test_normalization_layers_equal_numpy(kind: Norm) -> None:
    model = Applied(LayerBuilder(train=True, norm=kind), "normalize", options=(("name", "norm"),))
    found, variables = model.init_with_output(jax.random.key(0), jnp.asarray(X))
    np.testing.assert_allclose(found, over(kind), atol=1e-5)
    assert {k: v.shape for k, v in variables["params"]["norm"].items()} == {"scale": (64,), "bias": (64,)}


@pytest.mark.parametrize("kind", ["batch", "layer", "instance", "group"])
def test_normalization_layers_compute_in_float32_at_least(kind: Norm) -> None:
    layers = LayerBuilder(train=True, norm=kind, dtype="bfloat16", param_dtype="float16")
    model = Applied(layers, "normalize", options=(("name", "norm"),))
    halved = jnp.asarray(X, jnp.bfloat16)
    found, variables = model.init_with_output(jax.random.key(0), halved)
    assert found.dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {jnp.dtype("float16")}
    exact = Applied(LayerBuilder(train=True, norm=kind), "normalize", options=(("name", "norm"),))
    expected = exact.init_with_output(jax.random.key(0), halved.astype(jnp.float32))[0]
    np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))


def test_layer_builder_refuses_sizes_that_do_not_fit() -> None:
    def tried(method: str, *arguments: Any, kind: Norm = "group", channels: int = 64, **options: Any) -> None:
        layers = LayerBuilder(train=False, norm=kind)
        model = Applied(layers, method, arguments, tuple({**options, "name": "conv7"}.items()))
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(X[..., :channels])))

    with pytest.raises(ValueError, match=r"conv7 has 3 groups, .* its 64 inputs and its 96 outputs"):
        tried("conv", 96, groups=3)
    with pytest.raises(ValueError, match=r"too small: at conv7, a window of 7 .* on a side of 5 .* at least 7"):
        tried("conv", 8, 7, padding=0)
    with pytest.raises(ValueError, match="40 channels cannot be divided into 32 groups"):
        tried("normalize", channels=40)


def test_convolution_of_stride_2_pads_both_sides_equally() -> None:
    """(1, 1) for a 3x3 window, and not jax's "SAME", which is (0, 1) on an even side."""
    options = (("stride", 2), ("name", "conv"))
    model = Applied(LayerBuilder(train=False), "conv", (1,), options)
    x = jnp.ones((1, 4, 4, 1))
    found = model.apply({"params": {"conv": {"kernel": jnp.ones((3, 3, 1, 1))}}}, x)
    np.testing.assert_array_equal(found[0, :, :, 0], [[4, 6], [6, 9]])


def test_block_options_have_the_defaults_of_layer_builder() -> None:
    """The defaults are written twice, since a TypedDict has no defaults."""
    options = get_type_hints(BlockOptions, include_extras=True)
    defaults = {name: mark.value for name, hint in options.items() for mark in hint.__metadata__}
    assert defaults == {f.name: f.default for f in dataclasses.fields(LayerBuilder) if f.name in options}
