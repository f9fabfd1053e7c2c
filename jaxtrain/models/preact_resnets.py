"""Pre-activation residual networks (He et al. 2016, arXiv:1603.05027) and wide residual networks for images of 32x32.

Wide residual networks are those of Zagoruyko & Komodakis 2016, arXiv:1605.07146.
"""

from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt, Probability
from jaxtrain.models.cifar_resnets import blocks_per_stage
from jaxtrain.models.residual import (
    EXPANSION,
    BlockSpec,
    Kind,
    ResidualOptions,
    Shortcut,
    apply_stages,
    apply_stochastic_depth,
    shortcut,
)
from jaxtrain.nn.layers import BlockOptions, LayerBuilder, endpoint
from jaxtrain.nn.pooling import global_pool
from jaxtrain.nn.stochastic_depth import Scaling


class PreactBlock(nn.Module):
    """The pre-activation block conv(act(norm(...))) + shortcut, without an activation after the sum.

    Where the shape changes, the shortcut also starts after the first normalization and activation (He et al. 2016,
    appendix); a projection is not normalized. Dropout comes between the two convolutions of a basic block, after the
    activation (wide networks, section 2.4).

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
        features = place.features * EXPANSION[residual.kind]
        active = layers.act(layers.normalize(x, name="norm1"))
        changes = place.stride != 1 or x.shape[-1] != features
        if residual.kind == "basic":
            y = layers.conv(active, place.features, stride=place.stride, name="conv1")
            y = layers.dropout(layers.act(layers.normalize(y, name="norm2")), residual.dropout_rate)
            y = layers.conv(y, place.features, name="conv2")
        else:
            y = layers.conv(active, place.features, 1, name="conv1")
            y = layers.act(layers.normalize(y, name="norm2"))
            y = layers.conv(y, place.features, stride=place.stride, name="conv2")
            y = layers.conv(layers.act(layers.normalize(y, name="norm3")), features, 1, name="conv3")
        if residual.shortcut == "none":
            return y
        source = active if changes else x
        added = shortcut(layers, source, features, place.stride, residual.shortcut, normed=False)
        return apply_stochastic_depth(layers, residual, place, y) + added


class PreactResNet(nn.Module):
    """Pre-activation ResNet: 3x3 convolution, three stages, a last normalization and activation, average, `logits`.

    Endpoints: "stem", "stage1" to "stage3", "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: number of blocks of each stage.
      features: channels of each stage, before the expansion of a bottleneck.
      stem_features: channels of the first convolution.
      residual: options that all blocks share.
      layers: options that all layers share.
    """

    num_classes: int
    blocks: int
    features: tuple[int, int, int] = (16, 32, 64)
    stem_features: int = 16
    residual: ResidualOptions = ResidualOptions()
    layers: LayerBuilder = LayerBuilder()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = endpoint(self, "stem", layers.conv(images, self.stem_features, name="conv1"))
        x = apply_stages(
            self,
            layers.block(PreactBlock),
            x,
            layers=layers,
            residual=self.residual,
            blocks=(self.blocks,) * 3,
            features=self.features,
        )
        x = layers.act(layers.normalize(x, name="norm"))
        x = endpoint(self, "pooled", global_pool(x))
        return layers.logits(x, self.num_classes)


def preact_resnet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 110,
    kind: Kind = "basic",
    shortcut: Shortcut = "B",
    last_survival: Probability = 1.0,
    scaling: Scaling = "at_test",
    per_example: bool = False,
    **options: Unpack[BlockOptions],
) -> PreactResNet:
    """Build a pre-activation residual network for images of 32x32.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights: 6 n + 2 with basic blocks (110 is published), 9 n + 2 with bottlenecks
        (164 and 1001 are published).
      kind: kind of the blocks.
      shortcut: kind of shortcut.
      last_survival: survival probability of the last block's branch in training (stochastic depth), linear from 1.
      scaling: convention of stochastic depth.
      per_example: whether stochastic depth draws separately for each example.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the depth is not of that form.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.preact_resnet(num_classes=10, depth=8, shortcut="A")
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> sum(x.size for x in jax.tree.leaves(variables["params"]))
      75290
    """
    return PreactResNet(
        num_classes=num_classes,
        blocks=blocks_per_stage(depth, 6 if kind == "basic" else 9, f"preact_resnet with {kind} blocks"),
        residual=ResidualOptions(
            kind=kind, shortcut=shortcut, last_survival=last_survival, scaling=scaling, per_example=per_example
        ),
        layers=LayerBuilder(**options),
    )


def wide_resnet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 28,
    width: PositiveInt = 10,
    dropout_rate: Fraction = 0.0,
    **options: Unpack[BlockOptions],
) -> PreactResNet:
    """Build a wide residual network: pre-activation basic blocks of 16, 32 and 64 times `width` channels.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights, 6 n + 4, counting the projections: 16, 28 and 40 are published.
      width: widening factor k.
      dropout_rate: dropout rate inside each block; the paper uses 0.3 for WRN-28-10.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the depth is not 6 n + 4.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.wide_resnet(num_classes=10, depth=28, width=10, dropout_rate=0.3)
      >>> model.blocks, model.features
      (4, (160, 320, 640))
    """
    if depth < 10 or (depth - 4) % 6:
        near = max((depth - 4) // 6, 1) * 6 + 4
        raise ValueError(f"wide_resnet: the depth must be 6 n + 4, but it is {depth}; choose {near} or {near + 6}")
    return PreactResNet(
        num_classes=num_classes,
        blocks=(depth - 4) // 6,
        features=(16 * width, 32 * width, 64 * width),
        residual=ResidualOptions(dropout_rate=dropout_rate),
        layers=LayerBuilder(**options),
    )
