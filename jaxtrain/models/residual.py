"""The residual block of He et al. 2015 (arXiv:1512.03385), its shortcuts, and the bottleneck with groups of ResNeXt."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn.layers import Layers, endpoint
from jaxtrain.nn.stochastic_depth import Scaling, StochasticDepth, linear_decay

Kind = Literal["basic", "bottleneck"]
"""Two 3x3 convolutions, or 1x1, 3x3, 1x1."""
Shortcut = Literal["A", "B", "C", "none"]
"""Options A, B and C of the paper's section 4.1: where the shape changes, the input with every other place and channels
of zeros (A) or a projection (B); projections everywhere (C). "none" is a plain net, in which nothing is added."""
StrideIn = Literal["1x1", "3x3"]
"""Which convolution of a bottleneck has the stride: the first, as in the paper, or the second, as in torchvision."""

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels of a block's output for one of its stage's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residual:
    """What all residual blocks of a net have in common.

    Attributes:
      kind: basic or bottleneck.
      shortcut: what is added to a branch.
      stride_in: for a bottleneck.
      groups: of a bottleneck's 3x3 convolution, the cardinality of ResNeXt.
      group_width: channels of a group in the first stage's 3x3 convolutions; 0 for the stage's features.
      zero_init: begins the last scale of a branch at 0, so that the block begins as its shortcut.
      dropout_rate: inside a basic block with the activation first.
      last_survival: probability of the last block's branch in training (stochastic depth); the others' fall to it
        linearly from 1.
      scaling: the convention of stochastic depth.
      per_example: whether each example's branches are drawn on their own.
    """

    kind: Kind = "basic"
    shortcut: Shortcut = "B"
    stride_in: StrideIn = "3x3"
    groups: int = 1
    group_width: int = 0
    zero_init: bool = False
    dropout_rate: float = 0.0
    last_survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What is of one block alone.

    Attributes:
      features: channels of its stage; the block gives `EXPANSION[kind]` times as many.
      stride: of the block.
      width: channels of a bottleneck's 3x3 convolution, all groups together.
      survival: probability of the branch in training.
      blocks: in the whole net.
    """

    features: int
    stride: int = 1
    width: int = 0
    survival: float = 1.0
    blocks: int = 1


def stages(
    net: nn.Module,
    block: Callable[..., nn.Module],
    x: jax.Array,
    *,
    layers: Layers,
    residual: Residual,
    blocks: tuple[int, ...],
    features: tuple[int, ...],
) -> jax.Array:
    """Blocks `stageI_blockJ`, `blocks[I - 1]` in a stage, each stage after the first at half the size.

    Args:
      net: whose endpoints "stage1" and so on are named; this is called inside its compact method.
      block: called with `layers`, `residual`, `place` and `name`.
      x: `[N, H, W, C]`.
      layers: how layers are made.
      residual: what the blocks have in common.
      blocks: of each stage.
      features: of each stage, before the expansion of a bottleneck.
    """
    index = 0
    for stage, (count, channels) in enumerate(zip(blocks, features, strict=True), 1):
        for i in range(1, count + 1):
            index += 1
            place = Place(
                features=channels,
                stride=2 if stage > 1 and i == 1 else 1,
                width=residual.groups * residual.group_width * channels // features[0] or channels,
                survival=linear_decay(index, sum(blocks), residual.last_survival),
                blocks=sum(blocks),
            )
            x = block(layers=layers, residual=residual, place=place, name=f"stage{stage}_block{i}")(x)
        x = endpoint(net, f"stage{stage}", x)
    return x


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
        x = layers.conv(x, features, 1, stride=stride, bias=None if not normed else False, name="shortcut")
        return layers.normalize(x, name="shortcut_norm") if normed else x
    if not changes:
        return x
    x = x[:, ::stride, ::stride]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))


class ResidualBlock(nn.Module):
    """act(norm(conv(...)) + shortcut): normalization after every convolution, an activation after all but the last.

    Attributes:
      layers: how layers are made.
      residual: what the net's blocks have in common.
      place: what is of this one.
    """

    layers: Layers
    residual: Residual
    place: Place

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, residual, place = self.layers, self.residual, self.place
        y = self._basic(x) if residual.kind == "basic" else self._bottleneck(x)
        if residual.shortcut != "none":
            features = place.features * EXPANSION[residual.kind]
            y = kept(layers, residual, place, y)
            y = y + shortcut(layers, x, features, place.stride, residual.shortcut, normed=True)
        return layers.act(y)

    def _basic(self, x: jax.Array) -> jax.Array:
        layers, place = self.layers, self.place
        y = layers.conv(x, place.features, stride=place.stride, name="conv1")
        y = layers.act(layers.normalize(y, name="norm1"))
        y = layers.conv(y, place.features, name="conv2")
        return layers.normalize(y, name="norm2", scale_init=self._last_scale())

    def _bottleneck(self, x: jax.Array) -> jax.Array:
        layers, residual, place = self.layers, self.residual, self.place
        first, second = (place.stride, 1) if residual.stride_in == "1x1" else (1, place.stride)
        y = layers.conv(x, place.width, 1, stride=first, name="conv1")
        y = layers.act(layers.normalize(y, name="norm1"))
        y = layers.conv(y, place.width, stride=second, groups=residual.groups, name="conv2")
        y = layers.act(layers.normalize(y, name="norm2"))
        y = layers.conv(y, place.features * EXPANSION["bottleneck"], 1, name="conv3")
        return layers.normalize(y, name="norm3", scale_init=self._last_scale())

    def _last_scale(self) -> nn.initializers.Initializer:
        return nn.initializers.zeros if self.residual.zero_init else nn.initializers.ones


def kept(layers: Layers, residual: Residual, place: Place, branch: jax.Array) -> jax.Array:
    """What stochastic depth leaves of a branch."""
    drop = StochasticDepth(layers.train, place.survival, residual.scaling, residual.per_example)
    left: jax.Array = drop(branch)
    return left
