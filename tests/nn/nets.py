"""Small nets and batches shared by the tests of initializations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def key(seed: int = 0) -> jax.Array:
    """Return a key of the generator that compiles fastest."""
    return jax.random.key(seed, impl="rbg")


IMAGES = np.random.default_rng(0).normal(0.5, 2, size=(12, 6, 6, 4)).astype(np.float32)


class Small(nn.Module):
    """A convolution, a grouped one, one without a bias, a dense layer, a head; and one that only training calls."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, padding=1, name="conv1", **kinds)(images))
        if train or self.is_initializing():
            nn.Dense(3, name="auxiliary", **kinds)(x)
        x = nn.relu(nn.Conv(12, (3, 3), feature_group_count=2, name="conv2", padding=1, **kinds)(x))
        x = nn.relu(nn.Conv(6, (1, 1), use_bias=False, name="conv3", **kinds)(x))
        x = nn.tanh(nn.Dense(40, name="fc", **kinds)(x.reshape(x.shape[0], -1)))
        return nn.Dense(3, name="logits", **kinds)(x)


def outputs(model: nn.Module, variables: Any, images: Any) -> dict[str, np.ndarray]:
    """Return the output of each module, captured by flax."""
    _, state = jax.jit(
        lambda v, x: model.apply(v, x, train=False, capture_intermediates=True, mutable=["intermediates"])
    )(variables, jnp.asarray(images))
    flat = jax.tree_util.tree_leaves_with_path(state["intermediates"])
    found = {}
    for path, leaf in flat:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found[name.removesuffix("/__call__/0")] = np.asarray(leaf.astype(jnp.float32), np.float64)
    return found


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


class Constant(nn.Module):
    """A layer behind a ReLU whose outputs are all 0."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Dense(4, name="first")(images.reshape(images.shape[0], -1))
        return nn.Dense(3, name="second")(nn.relu(x - 1e6))


class NoLayers(nn.Module):
    """A model without layers to initialize."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return images + self.param("shift", nn.initializers.zeros, (), jnp.float32)
