"""Densely connected networks (Huang et al. 2017, arXiv:1608.06993)."""

from typing import Literal, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt, Probability
from jaxtrain.nn.layers import BlockOptions, LayerBuilder, endpoint
from jaxtrain.nn.pooling import global_pool, max_pool, pool

STAGES: dict[int, tuple[int, ...]] = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}
"""Number of layers of each dense block by depth: table 1; depth 161 has growth rate 48."""


class DenseLayer(nn.Module):
    """A dense layer: norm, act, 3x3 convolution to `growth` channels, concatenated to the input.

    With `bottleneck`, norm, act and a 1x1 convolution to 4 * `growth` channels come first.

    Attributes:
      layers: options that all layers share.
      growth: number of channels that the layer adds.
      bottleneck: whether to put the 1x1 convolution first (DenseNet-B).
      dropout_rate: dropout rate after each convolution.
    """

    layers: LayerBuilder
    growth: int
    bottleneck: bool = True
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H, W, C + growth]`."""
        layers, y = self.layers, x
        if self.bottleneck:
            y = layers.conv(layers.act(layers.normalize(y, name="norm1")), 4 * self.growth, 1, name="conv1")
            y = layers.dropout(y, self.dropout_rate)
        y = layers.conv(layers.act(layers.normalize(y, name="norm2")), self.growth, name="conv2")
        return jnp.concatenate([x, layers.dropout(y, self.dropout_rate)], axis=-1)


class DenseNet(nn.Module):
    """DenseNet: a stem, dense blocks with transitions between them, a last normalization, global average, `logits`.

    A transition is norm, act, a 1x1 convolution that keeps the share `compression` of the channels, and a 2x2 average
    pooling.

    Endpoints: "stem", "block1" and so on, "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: number of layers of each dense block.
      growth: growth rate k.
      stem_features: channels of the first convolution.
      stem: "imagenet" is a 7x7 convolution and a 3x3 pooling, both with stride 2; "cifar" is a 3x3 convolution.
      bottleneck: whether to put a 1x1 convolution before each 3x3 convolution.
      compression: share of the channels that a transition keeps.
      dropout_rate: dropout rate after each convolution of the blocks and transitions.
      layers: options that all layers share.
    """

    num_classes: int
    blocks: tuple[int, ...]
    growth: int
    stem_features: int
    stem: Literal["imagenet", "cifar"] = "imagenet"
    bottleneck: bool = True
    compression: float = 0.5
    dropout_rate: float = 0.0
    layers: LayerBuilder = LayerBuilder()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = endpoint(self, "stem", self._stem(layers, images))
        dense_layer = layers.block(DenseLayer)
        for b, count in enumerate(self.blocks, 1):
            for i in range(1, count + 1):
                x = dense_layer(
                    layers=layers,
                    growth=self.growth,
                    bottleneck=self.bottleneck,
                    dropout_rate=self.dropout_rate,
                    name=f"block{b}_layer{i}",
                )(x)
            x = endpoint(self, f"block{b}", x)
            if b < len(self.blocks):
                x = layers.act(layers.normalize(x, name=f"transition{b}_norm"))
                x = layers.conv(x, int(x.shape[-1] * self.compression), 1, name=f"transition{b}_conv")
                x = pool(layers.dropout(x, self.dropout_rate), "average")
        x = layers.act(layers.normalize(x, name="norm"))
        x = endpoint(self, "pooled", global_pool(x))
        return layers.logits(x, self.num_classes)

    def _stem(self, layers: LayerBuilder, images: jax.Array) -> jax.Array:
        if self.stem == "cifar":
            return layers.conv(images, self.stem_features, name="conv1")
        x = layers.conv(images, self.stem_features, 7, stride=2, name="conv1")
        return max_pool(layers.act(layers.normalize(x, name="norm1")), 3, 2, padding=1)


def densenet(
    *,
    num_classes: PositiveInt,
    depth: Literal[121, 161, 169, 201] = 121,
    dropout_rate: Fraction = 0.0,
    **options: Unpack[BlockOptions],
) -> DenseNet:
    """Build a DenseNet-BC for images of about 224x224, with growth rate 32, or 48 for depth 161.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights.
      dropout_rate: dropout rate after each convolution of the blocks and transitions.
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.densenet(num_classes=10, depth=161)
      >>> model.blocks, model.growth, model.stem_features
      ((6, 12, 36, 24), 48, 96)
    """
    growth = 48 if depth == 161 else 32
    return DenseNet(
        num_classes=num_classes,
        blocks=STAGES[depth],
        growth=growth,
        stem_features=2 * growth,
        dropout_rate=dropout_rate,
        layers=LayerBuilder(**options),
    )


def cifar_densenet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 100,
    growth: PositiveInt = 12,
    bottleneck: bool = True,
    compression: Probability = 0.5,
    dropout_rate: Fraction = 0.0,
    **options: Unpack[BlockOptions],
) -> DenseNet:
    """Build a DenseNet of three blocks for images of 32x32.

    Args:
      num_classes: number of logits.
      depth: number of layers with weights: 6 n + 4, or 3 n + 4 without bottlenecks; 40 and 100 are published.
      growth: growth rate k.
      bottleneck: whether to put a 1x1 convolution before each 3x3 convolution (DenseNet-B).
      compression: share of the channels that a transition keeps; below 1 it is DenseNet-C. The stem of a DenseNet-BC
        has 2 k channels, otherwise 16.
      dropout_rate: dropout rate after each convolution; the paper uses 0.2 without augmentation.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the depth is not of that form.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.cifar_densenet(num_classes=10, depth=10, growth=12)
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> variables["params"]["logits"]["kernel"].shape  # channels: 24 + 12, halved, + 12, halved, + 12
      (27, 10)
    """
    unit = 6 if bottleneck else 3
    if depth < unit + 4 or (depth - 4) % unit:
        near = max((depth - 4) // unit, 1) * unit + 4
        raise ValueError(
            f"cifar_densenet with bottleneck={bottleneck}: the depth must be {unit} n + 4, but it is {depth}; "
            f"choose {near} or {near + unit}"
        )
    return DenseNet(
        num_classes=num_classes,
        blocks=((depth - 4) // unit,) * 3,
        growth=growth,
        stem_features=2 * growth if bottleneck and compression < 1 else 16,
        stem="cifar",
        bottleneck=bottleneck,
        compression=compression,
        dropout_rate=dropout_rate,
        layers=LayerBuilder(**options),
    )
