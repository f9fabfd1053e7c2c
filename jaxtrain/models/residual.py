"""The residual block of He et al. 2015 (arXiv:1512.03385), its shortcuts, and the bottleneck with groups of ResNeXt."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn.layers import Layers
from jaxtrain.nn.stochastic_depth import Scaling, StochasticDepth

Kind = Literal["basic", "bottleneck"]
"""Two 3x3 convolutions, or 1x1, 3x3, 1x1."""
Shortcut = Literal["A", "B", "C", "none"]
"""Options A, B and C of the paper's section 4.1: where the shape changes, the input with every other place and channels
of zeros (A) or a projection (B); projections everywhere (C). "none" is a plain net, in which nothing is added."""
StrideIn = Literal["1x1", "3x3"]
"""Which convolution of a bottleneck has the stride: the first, as in the paper, or the second, as in torchvision."""

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels of a block's output for one of its stage's."""


def shortcut(layers: Layers, x: jax.Array, features: int, stride: int, option: Shortcut, *, normed: bool) -> jax.Array:
    """What is added to a branch of `features` channels: `x[N, H, W, C]` -> `[N, ceil(H / s), ceil(W / s), features]`.

    Args:
      layers: how layers are made; the projection is "shortcut", its normalization "shortcut_norm".
      x: the block's input.
      features: channels of the result.
      stride: of the branch.
      option: what to do where the shape changes.
      normed: whether a projection is normalized.
    """
    changes = stride != 1 or x.shape[-1] != features
    if option == "C" or (option == "B" and changes):
        x = layers.conv(x, features, 1, stride=stride, bias=layers.bias and not normed, name="shortcut")
        return layers.norm(x, name="shortcut_norm") if normed else x
    if not changes:
        return x
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


class ResidualBlock(nn.Module):
    """act(norm(conv(...)) + shortcut): normalization after every convolution, an activation after all but the last.

    Attributes:
      layers: how layers are made.
      features: channels of the stage; the block gives `EXPANSION[kind]` times as many.
      kind: basic or bottleneck.
      stride: of the block.
      shortcut: which option.
      stride_in: for a bottleneck.
      groups: of a bottleneck's 3x3 convolution, the cardinality of ResNeXt.
      width: channels of a bottleneck's 3x3 convolution, all groups together.
      zero_init: begins the last scale at 0, so that the block begins as its shortcut.
      survival: probability of the branch in training (stochastic depth).
      scaling: its convention.
      per_example: whether each example's branch is drawn on its own.
    """

    layers: Layers
    features: int
    kind: Kind = "basic"
    stride: int = 1
    shortcut: Shortcut = "B"
    stride_in: StrideIn = "3x3"
    groups: int = 1
    width: int = 0
    zero_init: bool = False
    survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, features = self.layers, self.features * EXPANSION[self.kind]
        y = self._basic(x) if self.kind == "basic" else self._bottleneck(x)
        if self.shortcut != "none":
            y = StochasticDepth(layers.train, self.survival, self.scaling, self.per_example)(y)
            y = y + shortcut(layers, x, features, self.stride, self.shortcut, normed=True)
        return layers.act(y)

    def _basic(self, x: jax.Array) -> jax.Array:
        layers = self.layers
        y = layers.conv(x, self.features, stride=self.stride, name="conv1")
        y = layers.act(layers.norm(y, name="norm1"))
        y = layers.conv(y, self.features, name="conv2")
        return layers.norm(y, name="norm2", scale_init=self._last_scale())

    def _bottleneck(self, x: jax.Array) -> jax.Array:
        layers, width = self.layers, self.width or self.features
        first, second = (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
        y = layers.conv(x, width, 1, stride=first, name="conv1")
        y = layers.act(layers.norm(y, name="norm1"))
        y = layers.conv(y, width, stride=second, groups=self.groups, name="conv2")
        y = layers.act(layers.norm(y, name="norm2"))
        y = layers.conv(y, self.features * EXPANSION["bottleneck"], 1, name="conv3")
        return layers.norm(y, name="norm3", scale_init=self._last_scale())

    def _last_scale(self) -> nn.initializers.Initializer:
        return nn.initializers.zeros if self.zero_init else nn.initializers.ones
