"""Residual networks for images of 32x32: He et al. 2015, section 4.2, and ResNeXt (Xie et al. 2017, section 5.3)."""

from typing import Unpack

from jaxtrain.config.annotations import PositiveInt, Probability
from jaxtrain.models.residual import Residual, Shortcut
from jaxtrain.models.resnets import ResNet, residual_layers
from jaxtrain.nn.layers import BlockOptions, Layers
from jaxtrain.nn.stochastic_depth import Scaling


def cifar_resnet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 20,
    shortcut: Shortcut = "A",
    zero_init: bool = False,
    last_survival: Probability = 1.0,
    scaling: Scaling = "at_test",
    per_example: bool = False,
    fixup: bool = False,
    **options: Unpack[BlockOptions],
) -> ResNet:
    """The residual network for images of 32x32 (section 4.2): three stages of n basic blocks, 16, 32 and 64 channels.

    Args:
      num_classes: number of logits.
      depth: 6 n + 2: 20, 32, 44, 56, 110, 1202.
      shortcut: "A" as published; "none" for the plain net, which has the same parameters.
      zero_init: see `resnet`, as for all that follow.
      last_survival: 0.5 is the published stochastic depth.
      scaling: the convention of stochastic depth.
      per_example: whether each example's branches are drawn on their own.
      fixup: scalars and an initialization in the place of normalization.
      options: see `Layers`.

    Raises:
      ValueError: for a depth that is not 6 n + 2.
    """
    return ResNet(
        num_classes=num_classes,
        blocks=(blocks_of(depth, 6, "cifar_resnet"),) * 3,
        features=(16, 32, 64),
        stem="cifar",
        residual=Residual(
            shortcut=shortcut,
            zero_init=zero_init,
            last_survival=last_survival,
            scaling=scaling,
            per_example=per_example,
        ),
        fixup=fixup,
        layers=residual_layers(options, fixup),
    )


def cifar_resnext(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 29,
    groups: PositiveInt = 8,
    group_width: PositiveInt = 64,
    **options: Unpack[BlockOptions],
) -> ResNet:
    """ResNeXt for images of 32x32 (Xie et al. 2017, section 5.3): three stages of n bottlenecks, 256 to 1,024 channels.

    Args:
      num_classes: number of logits.
      depth: 9 n + 2: 29.
      groups: cardinality; 8 and 16 are published.
      group_width: channels of a group in the first stage.
      options: see `Layers`.

    Raises:
      ValueError: for a depth that is not 9 n + 2.
    """
    return ResNet(
        num_classes=num_classes,
        blocks=(blocks_of(depth, 9, "cifar_resnext"),) * 3,
        features=(64, 128, 256),
        stem="cifar",
        residual=Residual(kind="bottleneck", groups=groups, group_width=group_width),
        layers=Layers(**options),
    )


def blocks_of(depth: int, layers: int, name: str) -> int:
    """Blocks a stage of a net with three stages: the n of depth = layers * n + 2.

    Raises:
      ValueError: where there is none.
    """
    blocks, rest = divmod(depth - 2, layers)
    if rest or blocks < 1:
        near = sorted({max(blocks, 1) * layers + 2, (max(blocks, 0) + 1) * layers + 2})
        raise ValueError(
            f"{name} has a depth of {layers} n + 2, and {depth} is none; near are {' and '.join(map(str, near))}"
        )
    return blocks
