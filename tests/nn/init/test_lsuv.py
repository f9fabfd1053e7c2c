"""LSUV against loops in numpy, and the outputs of the initialized layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.nn import lsuv
from tests.nn.nets import IMAGES, Constant, NoLayers, Small, key, outputs, shapes

LAYERS = ("conv1", "conv2", "conv3", "fc", "logits")


@pytest.fixture(scope="module")
def variables() -> Any:
    return lsuv(Small(), key(), IMAGES, tolerance=0.01)


@pytest.mark.slow
def test_lsuv_gives_unit_variance_and_orthogonal_kernels(variables: Any) -> None:
    given = outputs(Small(), variables, IMAGES)
    for name in LAYERS:
        assert given[name].var() == pytest.approx(1, abs=0.01), name
        kernel = np.asarray(variables["params"][name]["kernel"], np.float64)
        for group in np.split(kernel.reshape(-1, kernel.shape[-1]), 2 if name == "conv2" else 1, axis=1):
            product = group.T @ group if group.shape[0] >= group.shape[1] else group @ group.T
            np.testing.assert_allclose(product, product[0, 0] * np.eye(len(product)), atol=1e-5 * product[0, 0])
        assert not np.any(variables["params"][name].get("bias", 0))


def test_lsuv_equals_the_loop_of_the_paper() -> None:
    """An MLP in numpy: from the same orthonormal kernels, divided layer by layer."""
    model = models.mlp(num_classes=3, widths=(9, 20))
    found = lsuv(model, key(1), IMAGES)["params"]
    x = IMAGES.reshape(len(IMAGES), -1).astype(np.float64)
    for name in ("fc1", "fc2", "logits"):
        kernel = np.asarray(found[name]["kernel"], np.float64)
        kernel = kernel / np.linalg.norm(kernel, 2)  # orthonormal again
        for _ in range(10):
            variance = (x @ kernel).var()
            if abs(variance - 1) < 0.1:
                break
            kernel = kernel / np.sqrt(variance)
        np.testing.assert_allclose(found[name]["kernel"], kernel, rtol=1e-4, atol=1e-6)
        x = np.maximum(x @ kernel, 0)


def test_lsuv_keeps_the_parameter_tree_and_layers_that_are_not_called(variables: Any) -> None:
    own = jax.eval_shape(lambda: Small().init(key(0), jnp.asarray(IMAGES), train=False))
    assert shapes(variables) == shapes(own)
    assert np.asarray(variables["params"]["auxiliary"]["kernel"]).std() == pytest.approx(np.sqrt(1 / 8), rel=0.5)


class Two(nn.Module):
    """Two dense layers, rematerialized if `remat`."""

    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        dense: Any = nn.remat(nn.Dense) if self.remat else nn.Dense
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.relu(dense(30, name="fc", **kinds)(images.reshape(images.shape[0], -1)))
        return dense(3, name="logits", **kinds)(x)


@pytest.mark.slow
def test_lsuv_in_bfloat16_gives_unit_variance() -> None:
    model = Small(jnp.bfloat16, jnp.bfloat16)
    variables = lsuv(model, key(), IMAGES)
    assert {str(x.dtype) for x in jax.tree.leaves(variables)} == {"bfloat16"}
    given = outputs(model, variables, IMAGES)
    for name in LAYERS:
        assert given[name].var() == pytest.approx(1, abs=0.1), name


@pytest.mark.slow
def test_lsuv_in_float64_under_jit_equals_the_eager_result() -> None:
    with jax.enable_x64(True):
        model, images = Two(jnp.float64), IMAGES.astype(np.float64)
        eager = lsuv(model, key(), images)
        jitted = jax.jit(lambda k, x: lsuv(model, k, x))(key(), images)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), eager, jitted)
        logits = model.apply(eager, jnp.asarray(images), train=False)
        assert float(logits.var()) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_lsuv_handles_rematerialized_layers() -> None:
    variables = lsuv(Two(remat=True), key(), IMAGES, tolerance=0.01)
    given = outputs(Two(), variables, IMAGES)
    assert given["fc"].var() == pytest.approx(1, abs=0.01)
    assert given["logits"].var() == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_lsuv_names_layers_that_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="this one has 1 example"):
        lsuv(Small(), key(9), IMAGES[:1])
    with pytest.raises(ValueError, match=r"NoLayers calls no nn\.Conv or nn.Dense"):
        lsuv(NoLayers(), key(1), IMAGES)
    with pytest.raises(ValueError, match="layer second does not vary"):
        lsuv(Constant(), key(2), IMAGES)
    with pytest.raises(ValueError, match="layer first does not vary"):
        lsuv(Constant(), key(3), np.ones_like(IMAGES))


class Standardized(nn.Dense):
    """A layer that does not change when its kernel is scaled."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(), (inputs.shape[-1], self.features), jnp.float32)
        return 3 * inputs @ (kernel / jnp.linalg.norm(kernel))


def test_lsuv_refuses_a_layer_that_normalizes_its_kernel() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return Standardized(4, name="odd")(images.reshape(images.shape[0], -1))

    with pytest.raises(ValueError, match=r"layer odd has the variance .* after 10 divisions"):
        lsuv(Net(), key(0), IMAGES)
