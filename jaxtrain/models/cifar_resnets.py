"""Residual networks for images of 32x32: ResNet (He et al. 2015, section 4.2) and ResNeXt (Xie et al. 2017)."""

from typing import Unpack

from jaxtrain.annotations import PositiveInt, Probability
from jaxtrain.models.residual import ResidualOptions, Shortcut
from jaxtrain.models.resnets import ResNet, residual_layers
from jaxtrain.nn.layers import BlockOptions, LayerBuilder
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
    """Build a ResNet for images of 32x32 (section 4.2): three stages of n basic blocks, 16, 32 and 64 channels.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights, 6 n + 2: 20, 32, 44, 56, 110 and 1202 are published.
      shortcut: kind of shortcut: "A" as published; "none" for the plain net, which has the same parameters.
      zero_init: whether the last normalization scale of each block starts at 0.
      last_survival: survival probability of the last block's branch (stochastic depth), linear from 1; the paper of
        stochastic depth uses 0.5.
      scaling: convention of stochastic depth.
      per_example: whether stochastic depth draws separately for each example.
      fixup: whether to replace normalization by Fixup's scalars and initialization, whatever `norm` says.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the depth is not 6 n + 2.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.cifar_resnet(num_classes=10, depth=8, norm="group")
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> sum(x.size for x in jax.tree.leaves(variables))
      75290
    """
    return ResNet(
        num_classes=num_classes,
        blocks=(blocks_per_stage(depth, 6, "cifar_resnet"),) * 3,
        features=(16, 32, 64),
        stem="cifar",
        residual=ResidualOptions(
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
    """Build a ResNeXt for images of 32x32 (section 5.3): three stages of n bottlenecks, 256, 512 and 1,024 channels.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights, 9 n + 2; 29 is published.
      groups: number of groups (cardinality); 8 and 16 are published.
      group_width: channels per group in the first stage.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the depth is not 9 n + 2.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.cifar_resnext(num_classes=10, depth=29, groups=8)
      >>> model.blocks, model.residual.groups, model.residual.group_width
      ((3, 3, 3), 8, 64)
    """
    return ResNet(
        num_classes=num_classes,
        blocks=(blocks_per_stage(depth, 9, "cifar_resnext"),) * 3,
        features=(64, 128, 256),
        stem="cifar",
        residual=ResidualOptions(kind="bottleneck", groups=groups, group_width=group_width),
        layers=LayerBuilder(**options),
    )


def blocks_per_stage(depth: int, layers: int, name: str) -> int:
    """Return the number of blocks per stage of a net with three stages: n in depth = layers * n + 2.

    Args:
      depth: number of layers with weights.
      layers: number of layers that one block in each stage adds.
      name: name of the model, for the message.

    Raises:
      ValueError: if no such n exists.
    """
    blocks, rest = divmod(depth - 2, layers)
    if rest or blocks < 1:
        near = sorted({max(blocks, 1) * layers + 2, (max(blocks, 0) + 1) * layers + 2})
        raise ValueError(
            f"{name}: the depth must be {layers} n + 2, but it is {depth}; choose {' or '.join(map(str, near))}"
        )
    return blocks
