"""The nets of fractional max pooling (Graham 2014, arXiv:1412.6071, section 4): many small steps down."""

import math
from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt
from jaxtrain.nn.fractional_pooling import FractionalMaxPool, Ratio, Shared
from jaxtrain.nn.fractional_regions import Regions, Sequence
from jaxtrain.nn.layers import LayerOptions, Layers, endpoint
from jaxtrain.nn.pooling import global_pool

SQRT_2 = math.sqrt(2)


class FractionalCNN(nn.Module):
    """The paper's (k n C2 - FMP alpha)_B - C2 - C1 - output.

    Block n of B is a 2x2 convolution `convN` with k n channels, and a fractional pooling; then follow a 2x2 and a 1x1
    convolution with k (B + 1) and k (B + 2) channels, and `logits`. The convolutions are not padded; each has an
    activation, and before it dropout at a rate that grows from 0 by equal steps to that of the last. An image of the
    published size is one pixel by then; of a greater one the mean over places is taken.

    `apply(..., train=False, rngs={"dropout": key})` draws the regions and nothing else, as the paper does at test.

    Endpoints: "block1" and so on.

    Attributes:
      num_classes: number of logits.
      width: k.
      blocks: B.
      ratio: alpha.
      regions: of the pooling.
      sequence: of the pooling.
      shared: by what a draw is shared.
      dropout_rate: before the last convolution.
      layers: how layers are made.
    """

    num_classes: int
    width: int = 32
    blocks: int = 6
    ratio: float = SQRT_2
    regions: Regions = "windows"
    sequence: Sequence = "random"
    shared: Shared = "batch"
    dropout_rate: float = 0.0
    layers: Layers = Layers(norm="none")

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

    def _pool(self, layers: Layers, block: int) -> FractionalMaxPool:
        name = f"pool{block}"
        return FractionalMaxPool(layers.train, self.ratio, self.regions, self.sequence, self.shared, name=name)


def fractional_cnn(
    *,
    num_classes: PositiveInt,
    width: PositiveInt = 32,
    blocks: PositiveInt = 6,
    ratio: Ratio = SQRT_2,
    regions: Regions = "windows",
    sequence: Sequence = "random",
    shared: Shared = "batch",
    dropout_rate: Fraction = 0.0,
    **options: Unpack[LayerOptions],
) -> FractionalCNN:
    """A convolutional net with fractional max pooling; the defaults are for MNIST, padded to 36x36.

    Args:
      num_classes: number of logits.
      width: channels of the first convolution; the n-th has n times as many.
      blocks: of convolution and pooling.
      ratio: by which a pooling shrinks height and width; with half as many blocks its square does the same.
      regions: windows of 2x2 as in the author's code and torch, or the paper's regions between boundaries.
      sequence: random or pseudo-random steps.
      shared: whether the batch, the channels of an example, or nothing shares the regions.
      dropout_rate: before the last convolution; it grows to that from 0 before the first.
      options: see `Layers`; the paper's activation is a leaky ReLU.
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
        layers=Layers(norm="none", **options),
    )
