"""Residual networks (He et al. 2015), plain networks of the same depths, ResNeXt (Xie et al. 2017), wide ResNet-50."""

import dataclasses
from typing import Literal, Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import PositiveInt, Probability
from jaxtrain.models.fixup_block import FixupBlock, scalar_param
from jaxtrain.models.residual import Kind, ResidualBlock, ResidualOptions, Shortcut, StrideIn, apply_stages
from jaxtrain.nn.layers import BlockOptions, LayerBuilder, endpoint
from jaxtrain.nn.pooling import global_pool, max_pool
from jaxtrain.nn.stochastic_depth import Scaling

STAGES: dict[int, tuple[Kind, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Kind of block and number of blocks per stage, by depth: table 1 of the paper."""


class ResNet(nn.Module):
    """ResNet: a stem, stages of residual blocks (each after the first at half the size), global average and `logits`.

    Endpoints: "stem", "stage1" and so on, "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: number of blocks of each stage.
      features: channels of each stage, before the expansion of a bottleneck.
      stem: "imagenet" is a 7x7 convolution and a 3x3 pooling, both with stride 2; "cifar" is a 3x3 convolution.
      residual: options that all blocks share.
      fixup: whether Fixup's scalars and initialization replace normalization; `layers` must then have norm="none".
      layers: options that all layers share.
    """

    num_classes: int
    blocks: tuple[int, ...]
    features: tuple[int, ...]
    stem: Literal["imagenet", "cifar"] = "imagenet"
    residual: ResidualOptions = ResidualOptions()
    fixup: bool = False
    layers: LayerBuilder = LayerBuilder()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = endpoint(self, "stem", self._stem(layers, images))
        x = apply_stages(
            self,
            layers.block(FixupBlock if self.fixup else ResidualBlock),
            x,
            layers=layers,
            residual=self.residual,
            blocks=self.blocks,
            features=self.features,
        )
        x = endpoint(self, "pooled", global_pool(x))
        x = x + scalar_param(self, "bias2", x) if self.fixup else x
        return layers.logits(x, self.num_classes)

    def _stem(self, layers: LayerBuilder, images: jax.Array) -> jax.Array:
        imagenet = self.stem == "imagenet"
        width = self.features[0] if not imagenet and self.residual.groups == 1 else 64
        x = layers.conv(
            images,
            width,
            7 if imagenet else 3,
            stride=2 if imagenet else 1,
            bias=False if self.fixup else None,
            name="conv1",
        )
        x = x + scalar_param(self, "bias1", x) if self.fixup else x
        x = layers.act(layers.normalize(x, name="norm1"))
        return max_pool(x, 3, 2, padding=1) if imagenet else x


def resnet(
    *,
    num_classes: PositiveInt,
    depth: Literal[18, 34, 50, 101, 152] = 50,
    shortcut: Shortcut = "B",
    stride_in: StrideIn = "3x3",
    groups: PositiveInt = 1,
    group_width: PositiveInt = 64,
    zero_init: bool = False,
    last_survival: Probability = 1.0,
    scaling: Scaling = "at_test",
    per_example: bool = False,
    fixup: bool = False,
    **options: Unpack[BlockOptions],
) -> ResNet:
    """Build a residual network for images of about 224x224.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights; from 50 on the blocks are bottlenecks.
      shortcut: kind of shortcut; "none" for the plain net.
      stride_in: convolution of a bottleneck that has the stride: "1x1" as published, "3x3" as in torchvision.
      groups: number of groups (cardinality), only with bottlenecks; 32 with group_width=4 is ResNeXt 32x4d.
      group_width: channels per group in the first stage; 128 with one group is the wide ResNet-50-2.
      zero_init: whether the last normalization scale of each block starts at 0.
      last_survival: survival probability of the last block's branch in training (stochastic depth), linear from 1.
      scaling: convention of stochastic depth.
      per_example: whether stochastic depth draws separately for each example.
      fixup: whether to replace normalization by Fixup's scalars and initialization (Zhang et al. 2019), whatever
        `norm` says.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if `groups` or `group_width` is set for a depth with basic blocks.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.resnet(num_classes=10, depth=50, zero_init=True)
      >>> model.blocks, model.features, model.residual.kind
      ((3, 4, 6, 3), (64, 128, 256, 512), 'bottleneck')
    """
    kind, blocks = STAGES[depth]
    if kind == "basic" and (groups, group_width) != (1, 64):
        raise ValueError(
            f"resnet of depth {depth} has basic blocks, which take no groups={groups} or group_width={group_width}; "
            "set depth to 50, 101 or 152"
        )
    return ResNet(
        num_classes=num_classes,
        blocks=blocks,
        features=(64, 128, 256, 512),
        residual=ResidualOptions(
            kind=kind,
            shortcut=shortcut,
            stride_in=stride_in,
            groups=groups,
            group_width=group_width,
            zero_init=zero_init,
            last_survival=last_survival,
            scaling=scaling,
            per_example=per_example,
        ),
        fixup=fixup,
        layers=residual_layers(options, fixup),
    )


def residual_layers(options: BlockOptions, fixup: bool) -> LayerBuilder:
    """Return the layer options of a residual net; Fixup has no normalization and a classifier that starts at 0."""
    layers = LayerBuilder(**options)
    return dataclasses.replace(layers, norm="none", head_init="zeros") if fixup else layers
