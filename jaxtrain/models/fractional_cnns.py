"""Convolutional nets with fractional max pooling (Graham 2014, arXiv:1412.6071, section 4)."""

import math
from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.nn.fractional_pooling import FractionalMaxPool, Ratio, Shared
from jaxtrain.nn.fractional_regions import RegionKind, SequenceKind
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, endpoint
from jaxtrain.nn.pooling import global_pool

SQRT_2 = math.sqrt(2)


class FractionalCNN(nn.Module):
    """The paper's (k n C2 - FMP alpha)_B - C2 - C1 - output.

    Block n of B is a 2x2 convolution `convN` with k n channels and a fractional pooling. A 2x2 and a 1x1 convolution
    with k (B + 1) and k (B + 2) channels follow, then `logits`. The convolutions have no padding, and an activation
    after each. Dropout precedes each convolution; its rate grows linearly from 0 at the first to `dropout_rate` at the
    last. Images of the published size end as one pixel; for larger ones the net averages over positions.

    `apply(..., train=False, rngs={"dropout": key})` draws the pooling regions and nothing else, as the paper does at
    test time.

    Endpoints: "block1" and so on.

    Attributes:
      num_classes: number of logits.
      width: k, the channels of the first convolution.
      blocks: B, the number of blocks.
      ratio: alpha, the factor by which a pooling shrinks height and width.
      regions: kind of the pooling regions.
      sequence: kind of the random step sequences.
      shared: axes that share one draw of the regions.
      dropout_rate: dropout rate before the last convolution.
      layers: options that all layers share.
    """

    num_classes: int
    width: int = 32
    blocks: int = 6
    ratio: float = SQRT_2
    regions: RegionKind = "windows"
    sequence: SequenceKind = "random"
    shared: Shared = "batch"
    dropout_rate: float = 0.0
    layers: LayerBuilder = LayerBuilder(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers, x = self.layers.at(train=train), images
        last = self.blocks + 2
        for n in range(1, last + 1):
            x = layers.dropout(x, self.dropout_rate * (n - 1) / (last - 1))
            x = layers.conv(x, self.width * n, 1 if n == last else 2, padding=0, name=f"conv{n}")
            x = layers.act(x)
            if n <= self.blocks:
                x = self._pool(layers, n)(x)
                x = endpoint(self, f"block{n}", x)
        return layers.logits(global_pool(x), self.num_classes)

    def _pool(self, layers: LayerBuilder, block: int) -> FractionalMaxPool:
        name = f"pool{block}"
        return FractionalMaxPool(layers.train, self.ratio, self.regions, self.sequence, self.shared, name=name)


def fractional_cnn(
    *,
    num_classes: PositiveInt,
    width: PositiveInt = 32,
    blocks: PositiveInt = 6,
    ratio: Ratio = SQRT_2,
    regions: RegionKind = "windows",
    sequence: SequenceKind = "random",
    shared: Shared = "batch",
    dropout_rate: Fraction = 0.0,
    **options: Unpack[LayerOptions],
) -> FractionalCNN:
    """Build a convolutional net with fractional max pooling; the defaults are for MNIST, padded to 36x36.

    Args:
      num_classes: number of logits.
      width: channels of the first convolution; the n-th has n times as many.
      blocks: number of blocks, each a convolution and a pooling.
      ratio: factor by which a pooling shrinks height and width. Its square with half as many blocks gives the same
        total.
      regions: 2x2 windows as in the author's code and torch, or the paper's regions between boundaries.
      sequence: random or pseudo-random steps.
      shared: scope of one draw of the regions: the batch, all channels of an example, or a single channel.
      dropout_rate: dropout rate before the last convolution; it grows linearly from 0 before the first.
      options: layer options; see `LayerBuilder`. The paper's activation is a leaky ReLU.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.fractional_cnn(num_classes=10, width=8, blocks=2, activation="leaky_relu")
      >>> images = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> [layer["kernel"].shape for layer in variables["params"].values()]
      [(2, 2, 1, 8), (2, 2, 8, 16), (2, 2, 16, 24), (1, 1, 24, 32), (32, 10)]
    """
    return FractionalCNN(
        num_classes=num_classes,
        width=width,
        blocks=blocks,
        ratio=ratio,
        regions=regions,
        sequence=sequence,
        shared=shared,
        dropout_rate=dropout_rate,
        layers=LayerBuilder(norm="none", **options),
    )
