"""The residual block of He et al. 2015 (arXiv:1512.03385), its shortcuts, and ResNeXt's bottleneck with groups."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn.layers import LayerBuilder, endpoint
from jaxtrain.nn.stochastic_depth import Scaling, StochasticDepth, linear_survival

Kind = Literal["basic", "bottleneck"]
"""Kind of block: two 3x3 convolutions ("basic"), or 1x1, 3x3 and 1x1 ("bottleneck")."""
Shortcut = Literal["A", "B", "C", "none"]
"""Options A, B and C of the paper's section 4.1. Where the shape changes, A subsamples the input and pads its channels
with zeros, and B projects it by a 1x1 convolution. C projects in every block. "none" has no shortcuts (a plain net)."""
StrideIn = Literal["1x1", "3x3"]
"""Convolution of a bottleneck that has the stride: the first, as in the paper, or the second, as in torchvision."""

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Ratio of the output channels of a block to the `features` of its stage."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualOptions:
    """Options that all residual blocks of a net share.

    Attributes:
      kind: kind of block, "basic" or "bottleneck".
      shortcut: kind of shortcut.
      stride_in: convolution of a bottleneck that has the stride.
      groups: groups of a bottleneck's 3x3 convolution, the cardinality of ResNeXt.
      group_width: channels per group in the 3x3 convolutions of the first stage; 0 for the stage's features.
      zero_init: whether the last normalization scale of a branch starts at 0, so that the block starts as its shortcut.
      dropout_rate: dropout rate inside a basic pre-activation block.
      last_survival: survival probability of the last block's branch in training (stochastic depth); it falls linearly
        from 1 over the blocks.
      scaling: convention of stochastic depth.
      per_example: whether stochastic depth draws separately for each example.
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
class BlockSpec:
    """Options of one residual block.

    Attributes:
      features: channels of the stage; the block outputs `EXPANSION[kind]` times as many.
      stride: stride of the block.
      width: channels of a bottleneck's 3x3 convolution, all groups together.
      survival: survival probability of the branch in training.
      blocks: number of blocks in the whole net.
    """

    features: int
    stride: int = 1
    width: int = 0
    survival: float = 1.0
    blocks: int = 1


def apply_stages(
    net: nn.Module,
    block: Callable[..., nn.Module],
    x: jax.Array,
    *,
    layers: LayerBuilder,
    residual: ResidualOptions,
    blocks: tuple[int, ...],
    features: tuple[int, ...],
) -> jax.Array:
    """Apply the stages of a residual net, each after the first at half the resolution; return the last feature map.

    Stage I has `blocks[I - 1]` blocks, named `stageI_blockJ`. Call this inside the compact method of `net`.

    Args:
      net: module that gets the endpoints "stage1", "stage2" and so on.
      block: class of the blocks, called with `layers`, `residual`, `place` and `name`.
      x: input `[N, H, W, C]`.
      layers: options that all layers share.
      residual: options that all blocks share.
      blocks: number of blocks of each stage.
      features: channels of each stage, before the expansion of a bottleneck.
    """
    index = 0
    for stage, (count, channels) in enumerate(zip(blocks, features, strict=True), 1):
        for i in range(1, count + 1):
            index += 1
            place = BlockSpec(
                features=channels,
                stride=2 if stage > 1 and i == 1 else 1,
                width=residual.groups * residual.group_width * channels // features[0] or channels,
                survival=linear_survival(index, sum(blocks), residual.last_survival),
                blocks=sum(blocks),
            )
            x = block(layers=layers, residual=residual, place=place, name=f"stage{stage}_block{i}")(x)
        x = endpoint(net, f"stage{stage}", x)
    return x


def shortcut(
    layers: LayerBuilder, x: jax.Array, features: int, stride: int, option: Shortcut, *, normed: bool
) -> jax.Array:
    """Return the shortcut that is added to a branch: `x[N, H, W, C]` -> `[N, ceil(H / s), ceil(W / s), features]`.

    Args:
      layers: options that all layers share; the projection is named "shortcut", its normalization "shortcut_norm".
      x: input of the block.
      features: channels of the result.
      stride: stride s of the branch.
      option: kind of shortcut.
      normed: whether to normalize a projection.
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
    """The residual block act(norm(conv(...)) + shortcut), with an activation after every normalization but the last.

    Attributes:
      layers: options that all layers share.
      residual: options that all blocks of the net share.
      place: options of this block.
    """

    layers: LayerBuilder
    residual: ResidualOptions
    place: BlockSpec

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, residual, place = self.layers, self.residual, self.place
        y = self._basic(x) if residual.kind == "basic" else self._bottleneck(x)
        if residual.shortcut != "none":
            features = place.features * EXPANSION[residual.kind]
            y = apply_stochastic_depth(layers, residual, place, y)
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


def apply_stochastic_depth(
    layers: LayerBuilder, residual: ResidualOptions, place: BlockSpec, branch: jax.Array
) -> jax.Array:
    """Apply stochastic depth to a branch."""
    drop = StochasticDepth(layers.train, place.survival, residual.scaling, residual.per_example)
    result: jax.Array = drop(branch)
    return result
