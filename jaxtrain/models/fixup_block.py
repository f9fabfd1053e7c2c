"""Fixup's residual block without normalization (Zhang, Dauphin & Ma 2019, arXiv:1901.09321, figure 1)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.models.residual import EXPANSION, BlockSpec, ResidualOptions, apply_stochastic_depth, shortcut
from jaxtrain.nn.init.fixup import fixup_scale
from jaxtrain.nn.init.initializers import constant, he
from jaxtrain.nn.layers import LayerBuilder
from jaxtrain.nn.pooling import symmetric_padding
from jaxtrain.xla_cpu.convolutions import conv_general_dilated


class FixupBlock(nn.Module):
    """Fixup's block act(multiplier * branch(x) + bias + shortcut): scalar biases before convolutions and activations.

    The convolutions start with He initialization scaled by L^(-1 / (2 m - 2)), for L blocks of m convolutions. The last
    one starts at 0, so that the block starts as its shortcut. The shortcut takes the input plus the first bias
    where it projects, or subsamples and pads with zeros, as in the authors' code. The block does not initialize the
    classifier, which starts at 0 in the paper.

    The scalars are `bias1a` before `conv1`, `bias1b` after it, and so on, and `multiplier`. The paper trains them with
    a tenth of the learning rate.

    Attributes:
      layers: options that all layers share, with norm="none".
      residual: options that all blocks of the net share.
      place: options of this block; its `blocks` is L.
    """

    layers: LayerBuilder
    residual: ResidualOptions
    place: BlockSpec

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, residual, place = self.layers, self.residual, self.place
        if layers.norm != "none" or residual.shortcut == "none":
            raise ValueError(
                "a Fixup block is for residual nets without normalization, so it needs norm='none' and a shortcut; it "
                f"got norm={layers.norm!r} and shortcut={residual.shortcut!r}"
            )
        features = place.features * EXPANSION[residual.kind]
        shifted = x + scalar_param(self, "bias1a", x)
        y = apply_stochastic_depth(layers, residual, place, self._branch(shifted))
        changes = place.stride != 1 or x.shape[-1] != features
        source = shifted if changes or residual.shortcut == "C" else x
        return layers.act(y + shortcut(layers, source, features, place.stride, residual.shortcut, normed=True))

    def _branch(self, y: jax.Array) -> jax.Array:
        convolutions = self._convolutions()
        for i, (features, window, stride, groups) in enumerate(convolutions, 1):
            last = i == len(convolutions)
            factor = 0.0 if last else fixup_scale(self.place.blocks, len(convolutions))
            y = y if i == 1 else y + scalar_param(self, f"bias{i}a", y)
            y = nn.Conv(
                features,
                (window, window),
                strides=stride,
                padding=symmetric_padding((window - 1) // 2),
                feature_group_count=groups,
                use_bias=False,
                kernel_init=he(2 * factor**2) if factor else constant(0.0),
                dtype=jnp.dtype(self.layers.dtype),
                param_dtype=jnp.dtype(self.layers.param_dtype),
                conv_general_dilated=conv_general_dilated,
                name=f"conv{i}",
            )(y)
            y = y * scalar_param(self, "multiplier", y, 1.0) if last else y
            y = y + scalar_param(self, f"bias{i}b", y)
            y = y if last else self.layers.act(y)
        return y

    def _convolutions(self) -> list[tuple[int, int, int, int]]:
        """Return the channels, kernel size, stride and groups of each convolution."""
        residual, place = self.residual, self.place
        if residual.kind == "basic":
            return [(place.features, 3, place.stride, 1), (place.features, 3, 1, 1)]
        first, second = (place.stride, 1) if residual.stride_in == "1x1" else (1, place.stride)
        width, features = place.width, place.features * EXPANSION[residual.kind]
        return [(width, 1, first, 1), (width, 3, second, residual.groups), (features, 1, 1, 1)]


def scalar_param(module: Any, name: str, x: jax.Array, value: float = 0.0) -> jax.Array:
    """Create a scalar parameter of `module`, in the dtype of `x`; call this inside the compact method of `module`."""
    number = module.param(name, constant(value), (), jnp.dtype(module.layers.param_dtype))
    return number.astype(x.dtype)
