"""Densely connected networks (Huang et al. 2017, arXiv:1608.06993)."""

from typing import Literal, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt, Probability
from jaxtrain.nn.layers import BlockOptions, Layers, endpoint
from jaxtrain.nn.pooling import global_pool, max_pool, pool

STAGES: dict[int, tuple[int, ...]] = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}
"""Layers of each dense block: table 1; 161 is the one of growth rate 48."""


class DenseLayer(nn.Module):
    """norm, act, 3x3 convolution to `growth` channels, which join those before; 1x1 to 4 times as many goes first.

    Attributes:
      layers: how layers are made.
      growth: channels that it adds.
      bottleneck: whether the 1x1 convolution is there (DenseNet-B).
      dropout_rate: after each convolution.
    """

    layers: Layers
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
    """A stem, dense blocks with a transition between two, a last normalization, a global average and `logits`.

    A transition is a 1x1 convolution to `compression` of the channels and a 2x2 average pooling.

    Endpoints: "stem", "block1" and so on, "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: layers of each dense block.
      growth: the growth rate k.
      stem_features: channels of the first convolution.
      stem: "imagenet" is a 7x7 convolution and a 3x3 pooling, both with a stride of 2; "cifar" a 3x3 convolution.
      bottleneck: 1x1 convolutions before the 3x3 ones.
      compression: share of the channels that a transition leaves.
      dropout_rate: after each convolution of the blocks.
      layers: how layers are made.
    """

    num_classes: int
    blocks: tuple[int, ...]
    growth: int
    stem_features: int
    stem: Literal["imagenet", "cifar"] = "imagenet"
    bottleneck: bool = True
    compression: float = 0.5
    dropout_rate: float = 0.0
    layers: Layers = Layers()

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

    def _stem(self, layers: Layers, images: jax.Array) -> jax.Array:
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
    """A DenseNet-BC for images of about 224x224: growth rate 32, or 48 for depth 161.

    Args:
      num_classes: number of logits.
      depth: layers with weights.
      dropout_rate: after each convolution of the blocks.
      options: see `Layers`.
    """
    growth = 48 if depth == 161 else 32
    return DenseNet(
        num_classes=num_classes,
        blocks=STAGES[depth],
        growth=growth,
        stem_features=2 * growth,
        dropout_rate=dropout_rate,
        layers=Layers(**options),
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
    """A DenseNet of three blocks for images of 32x32.

    Args:
      num_classes: number of logits.
      depth: 3 n + 4, with bottlenecks 6 n + 4: 40 and 100 are published.
      growth: the growth rate k.
      bottleneck: 1x1 convolutions before the 3x3 ones (B).
      compression: share of the channels that a transition leaves; below 1 is C. With B and C the stem has 2 k channels,
        16 else.
      dropout_rate: after each convolution of the blocks; 0.2 is published where images are not augmented.
      options: see `Layers`.

    Raises:
      ValueError: for a depth that does not fit.
    """
    unit = 6 if bottleneck else 3
    if depth < unit + 4 or (depth - 4) % unit:
        near = max((depth - 4) // unit, 1) * unit + 4
        raise ValueError(
            f"cifar_densenet with bottleneck={bottleneck} has a depth of {unit} n + 4, and {depth} is none; near are "
            f"{near} and {near + unit}"
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
        layers=Layers(**options),
    )
