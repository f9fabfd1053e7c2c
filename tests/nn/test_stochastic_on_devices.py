"""Stochastic layers under jit, vmap, remat, pmap and both kinds of meshes: the same random draws everywhere."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtrain.nn.dropconnect import DropConnect
from jaxtrain.nn.dropout import Dropout
from jaxtrain.nn.fractal_join import draw_local_paths, fractal_join_given
from jaxtrain.nn.fractional_pooling import FractionalMaxPool
from jaxtrain.nn.shake_shake import ShakeShake
from jaxtrain.nn.stochastic_depth import StochasticDepth
from jaxtrain.step_context import narrow_context
from tests.conftest import slow

IMAGES = np.random.default_rng(0).normal(size=(16, 6, 5, 3)).astype(np.float32)


class Everything(nn.Module):
    """All stochastic layers in parallel: `x[N, H, W, C]` -> `[N, ...]` by name."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        pool = FractionalMaxPool(True, sequence="pseudorandom", shared="channel")
        paths = draw_local_paths(self.make_rng("dropout"), 2, 0.5)
        return {
            "dropout": Dropout(True, 0.5)(x),
            "shake": ShakeShake(True)(x, 2 * x),
            "depth": StochasticDepth(True, 0.5, per_example=True)(x),
            "join": fractal_join_given(paths, [x, 3 * x]),
            "pool": pool(x),
            "connect": DropConnect(True, 4, 0.5, "relu", at_a_time=2)(x[:, 0, 0]),
        }


def drawn(module: nn.Module, key: jax.Array, images: Any) -> dict[str, jax.Array]:
    """Return the outputs of the layers."""
    params = {"DropConnect_0": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.ones(4)}}
    return module.apply({"params": params}, images, rngs={"dropout": key})


def values(module: nn.Module, key: jax.Array, images: Any) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return the outputs of the layers, and the gradient of a function of them."""

    def total(x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        found = drawn(module, key, x)
        return sum(jnp.sin(y).sum() for y in found.values()), found

    gradient, found = jax.grad(total, has_aux=True)(images)
    return found, gradient


def same(found: Any, expected: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


@pytest.fixture(scope="module")
def alone() -> Any:
    return jax.device_get(jax.jit(lambda k, x: values(Everything(), k, x))(jax.random.key(0), IMAGES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [slow(AxisType.Auto), AxisType.Explicit])
def test_stochastic_layers_on_eight_devices_equal_one_device(alone: Any, kind: AxisType) -> None:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        images = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("data")))
        found = jax.jit(lambda k, x: values(Everything(), k, x))(jax.random.key(0), images)
    assert len(found[0]["connect"].sharding.device_set) == 8
    assert not found[1].sharding.is_fully_replicated
    same(jax.device_get(found), alone)


@pytest.mark.slow
def test_stochastic_layers_on_part_of_a_batch_equal_the_whole(alone: Any) -> None:
    numbers = np.array([11, 3, 6], np.uint32)

    @jax.jit
    def part(key: jax.Array, x: jax.Array) -> Any:
        with narrow_context(indices=jnp.asarray(numbers)):
            return drawn(Everything(), key, x)

    found = part(jax.random.key(0), IMAGES[numbers])
    same(jax.device_get(found), {name: y[numbers] for name, y in alone[0].items()})
    with pytest.raises(ValueError, match=r"draws keys for 16 examples, but the step is processing 3"):
        part(jax.random.key(0), IMAGES)


@pytest.mark.slow
def test_stochastic_layers_under_remat_draw_the_same_values(alone: Any) -> None:
    remat = nn.remat(Everything)
    same(jax.device_get(jax.jit(lambda k, x: values(remat(), k, x))(jax.random.key(0), IMAGES)), alone)


@pytest.mark.slow
def test_stochastic_layers_under_pmap_equal_vmap() -> None:
    """Each device folds its index into the key and processes two examples."""
    parts = IMAGES.reshape(8, 2, *IMAGES.shape[1:])

    def one(key: jax.Array, x: jax.Array) -> Any:
        own = jax.random.fold_in(key, jax.lax.axis_index("data"))
        return drawn(Everything(), own, x)

    mapped = jax.pmap(one, axis_name="data", in_axes=(None, 0))(jax.random.key(0), parts)
    expected = jax.jit(jax.vmap(one, axis_name="data", in_axes=(None, 0)))(jax.random.key(0), parts)
    same(jax.device_get(mapped), jax.device_get(expected))
    assert len(np.unique(np.asarray(mapped["dropout"]) != 0, axis=0)) == 8
