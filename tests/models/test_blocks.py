"""Single blocks: operation counts of both Inception forms, and the three forms of the ResNeXt block."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxtrain.analysis.cost import flops
from jaxtrain.models.googlenets import Inception, NaiveInception
from jaxtrain.models.residual import BlockSpec, ResidualBlock, ResidualOptions
from jaxtrain.nn.layers import LayerBuilder

GROUPS, WIDTH, FEATURES = 4, 3, 5
"""Number of paths of the small ResNeXt block, channels per path, and features of its stage (20 in and out)."""


@pytest.mark.parametrize(
    ("module", "multiply_adds", "channels"),
    [
        (NaiveInception(LayerBuilder(norm="none"), (128, 192, 96)), 854_196_224, 672),
        (Inception(LayerBuilder(norm="none"), (128, 64, 192, 64, 96, 64)), 271_351_808, 480),
    ],
)
def test_inception_1x1_convolutions_save_two_thirds_of_the_flops(
    module: nn.Module, multiply_adds: int, channels: int
) -> None:
    """The example of Szegedy et al.: 28x28x256 in; 854,196,224 = 28 * 28 * 256 * (128 + 9 * 192 + 25 * 96)."""
    images = jax.ShapeDtypeStruct((1, 28, 28, 256), jnp.float32)
    traced, (result, _) = jax.make_jaxpr(lambda x: module.init_with_output(jax.random.key(0), x), return_shape=True)(
        images
    )
    assert flops(traced.jaxpr) == 2 * multiply_adds
    assert result.shape == (1, 28, 28, channels)


def conv(x: Any, kernel: Any, padding: int = 0) -> jax.Array:
    pads = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def normed(x: jax.Array, p: Any, stats: Any) -> jax.Array:
    one = (1, 1, 1, -1)
    factor = p["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    return (x - stats["mean"].reshape(one)) * factor.reshape(one) + p["bias"].reshape(one)


def cut(tree: Any, path: int) -> Any:
    """Return the slice of one path from the last axis of a layer."""
    return jax.tree.map(lambda a: a[..., path * WIDTH : (path + 1) * WIDTH], tree)


def path_inside(x: jax.Array, p: Any, s: Any, path: int) -> jax.Array:
    """Apply the 1x1 and 3x3 convolutions of one path, each with normalization and ReLU."""
    y = nn.relu(normed(conv(x, cut(p["conv1"]["kernel"], path)), cut(p["norm1"], path), cut(s["norm1"], path)))
    y = conv(y, cut(p["conv2"]["kernel"], path), 1)
    return nn.relu(normed(y, cut(p["norm2"], path), cut(s["norm2"], path)))


def summed(x: jax.Array, p: Any, s: Any) -> jax.Array:
    """Compute form (a) of figure 3: each path ends in its own 1x1 convolution, and their outputs are added."""
    rows = [p["conv3"]["kernel"][:, :, i * WIDTH : (i + 1) * WIDTH] for i in range(GROUPS)]
    y = sum(conv(path_inside(x, p, s, i), rows[i]) for i in range(GROUPS))
    return nn.relu(normed(jnp.asarray(y), p["norm3"], s["norm3"]) + x)


def joined(x: jax.Array, p: Any, s: Any) -> jax.Array:
    """Compute form (b): the outputs of the 3x3 convolutions are concatenated before one 1x1 convolution."""
    y = jnp.concatenate([path_inside(x, p, s, i) for i in range(GROUPS)], axis=-1)
    return nn.relu(normed(conv(y, p["conv3"]["kernel"]), p["norm3"], s["norm3"]) + x)


@pytest.mark.quick_cases("joined")
@pytest.mark.parametrize("form", [summed, joined])
def test_resnext_block_equals_its_two_other_published_forms(form: Any) -> None:
    """Xie et al. 2017, figure 3: form (c), a grouped convolution, is the block of the package."""
    block = ResidualBlock(
        layers=LayerBuilder(dtype="float64", param_dtype="float64"),
        residual=ResidualOptions(kind="bottleneck", groups=GROUPS, group_width=WIDTH),
        place=BlockSpec(features=FEATURES, width=GROUPS * WIDTH),
    )
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, 5, 4, 4 * FEATURES)))
        shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x))
        drawn = jax.tree.map(
            lambda a: rng.uniform(0.5, 1.5, a.shape) * (1 if a.ndim == 1 else math.prod(a.shape[:-1]) ** -0.5), shapes
        )
        assert shapes["params"]["conv2"]["kernel"].shape == (3, 3, WIDTH, GROUPS * WIDTH)
        expected = form(x, drawn["params"], drawn["batch_stats"])
        np.testing.assert_allclose(block.apply(drawn, x), expected, rtol=1e-12)
