"""Residual networks (He et al. 2015), plain ones of their depth, ResNeXt (Xie et al. 2017) and a wide variant."""

from typing import Literal

import jax
from flax import linen as nn

from jaxtrain.config.annotations import PositiveInt, Probability
from jaxtrain.models.endpoints import endpoint
from jaxtrain.models.residual import Kind, ResidualBlock, Shortcut, StrideIn
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.initializers import KernelInit
from jaxtrain.nn.layers import DType, Layers
from jaxtrain.nn.normalization import Norm
from jaxtrain.nn.pooling import global_pool, max_pool
from jaxtrain.nn.stochastic_depth import Scaling, linear_decay

STAGES: dict[int, tuple[Kind, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Kind and number of the blocks for each depth: table 1 of the paper."""


class ResNet(nn.Module):
    """A stem, stages of residual blocks, each after the first at half the size, a global average and `logits`.

    Endpoints: "stem", "stage1" and so on, "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: of each stage.
      features: of each stage, before the expansion of a bottleneck.
      stem: "imagenet" is a 7x7 convolution and a 3x3 pooling, both with a stride of 2; "cifar" a 3x3 convolution.
      kind, shortcut, stride_in, groups, zero_init, scaling, per_example: see `ResidualBlock`.
      group_width: channels of a group in the first stage's 3x3 convolutions; 0 for the stage's features.
      last_survival: probability of the last block in training; the others' fall to it linearly from 1.
      norm, activation, kernel_init, dtype, param_dtype: see `Layers`.
      remat: computes each block once more for its gradient, and does not keep what is inside.
    """

    num_classes: int
    blocks: tuple[int, ...]
    features: tuple[int, ...]
    stem: Literal["imagenet", "cifar"] = "imagenet"
    kind: Kind = "basic"
    shortcut: Shortcut = "B"
    stride_in: StrideIn = "3x3"
    groups: int = 1
    group_width: int = 0
    zero_init: bool = False
    last_survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False
    norm: Norm = "batch"
    activation: Activation = "relu"
    kernel_init: KernelInit = "he"
    dtype: DType = "float32"
    param_dtype: DType = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = Layers(
            train=train,
            norm_kind=self.norm,
            activation=self.activation,
            kernel_init=self.kernel_init,
            bias=self.norm == "none",
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        x = endpoint(self, "stem", self._stem(layers, images))
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        index = 0
        for stage, (count, features) in enumerate(zip(self.blocks, self.features, strict=True), 1):
            for i in range(1, count + 1):
                index += 1
                x = block(
                    layers=layers,
                    features=features,
                    kind=self.kind,
                    stride=2 if stage > 1 and i == 1 else 1,
                    shortcut=self.shortcut,
                    stride_in=self.stride_in,
                    groups=self.groups,
                    width=self.groups * self.group_width * features // self.features[0],
                    zero_init=self.zero_init,
                    survival=linear_decay(index, sum(self.blocks), self.last_survival),
                    scaling=self.scaling,
                    per_example=self.per_example,
                    name=f"stage{stage}_block{i}",
                )(x)
            x = endpoint(self, f"stage{stage}", x)
        x = endpoint(self, "pooled", global_pool(x))
        return layers.dense(x, self.num_classes, name="logits").astype(images.dtype)

    def _stem(self, layers: Layers, images: jax.Array) -> jax.Array:
        imagenet = self.stem == "imagenet"
        width = self.features[0] if not imagenet and self.groups == 1 else 64
        x = layers.conv(images, width, 7 if imagenet else 3, stride=2 if imagenet else 1, name="conv1")
        x = layers.act(layers.norm(x, name="norm1"))
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
    norm: Norm = "batch",
    activation: Activation = "relu",
    kernel_init: KernelInit = "he",
    dtype: DType = "float32",
    param_dtype: DType = "float32",
    remat: bool = False,
) -> ResNet:
    """A residual network for images of about 224x224.

    Args:
      num_classes: number of logits.
      depth: layers with weights; from 50 on the blocks are bottlenecks.
      shortcut: where the shape changes; "none" for the plain net.
      stride_in: the convolution of a bottleneck that has the stride: "1x1" as published, "3x3" as in torchvision.
      groups: cardinality: 32 with a group_width of 4 is ResNeXt 32x4d; only with bottlenecks.
      group_width: channels of a group in the first stage; 128 with one group is the wide ResNet-50-2.
      zero_init: begins the last scale of each block at 0.
      last_survival: probability of the last block's branch in training (stochastic depth), linear from 1.
      scaling: the convention of stochastic depth.
      per_example: whether each example's branches are drawn on their own.
      norm: after each convolution; with "none" convolutions have a bias.
      activation: after each normalization but a branch's last, and after each block.
      kernel_init: of convolutions.
      dtype: of computation.
      param_dtype: of parameters.
      remat: computes each block once more for its gradient instead of keeping what is inside.

    Raises:
      ValueError: for groups or widths with basic blocks, which have none.
    """
    kind, blocks = STAGES[depth]
    if kind == "basic" and (groups, group_width) != (1, 64):
        raise ValueError(
            f"resnet of depth {depth} is made of basic blocks, which have no groups={groups} or "
            f"group_width={group_width}; take depth 50, 101 or 152"
        )
    return ResNet(
        num_classes=num_classes,
        blocks=blocks,
        features=(64, 128, 256, 512),
        kind=kind,
        shortcut=shortcut,
        stride_in=stride_in,
        groups=groups,
        group_width=group_width,
        zero_init=zero_init,
        last_survival=last_survival,
        scaling=scaling,
        per_example=per_example,
        norm=norm,
        activation=activation,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        remat=remat,
    )
