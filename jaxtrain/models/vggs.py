"""VGG networks A to E (Simonyan & Zisserman 2015, arXiv:1409.1556, table 1)."""

from typing import Literal, Unpack

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt
from jaxtrain.nn.layers import LayerOptions, Layers, endpoint
from jaxtrain.nn.normalization import Norm
from jaxtrain.nn.pooling import pool

Configuration = Literal["A", "B", "C", "D", "E"]

WINDOWS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3),) * 5,
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3,) * 4, (3,) * 4, (3,) * 4),
}
"""Sides of the convolutions of each stage."""
FEATURES = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages `stageI_convJ` with 2x2 pooling after each, `fc1`, `fc2` of 4,096 units with dropout, `logits`.

    The first dense layer sees every place of the last feature map, 7x7 for images of 224: another image size is another
    number of parameters, and must be at least 32.

    Endpoints: "stage1" to "stage5", after the pooling, "fc1", "fc2".

    Attributes:
      num_classes: number of logits.
      configuration: which column of the table.
      dropout_rate: after each of the first two dense layers.
      layers: how layers are made.
    """

    num_classes: int
    configuration: Configuration = "D"
    dropout_rate: float = 0.5
    layers: Layers = Layers(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = images
        for stage, (windows, features) in enumerate(zip(WINDOWS[self.configuration], FEATURES, strict=True), 1):
            for i, window in enumerate(windows, 1):
                x = layers.conv(x, features, window, name=f"stage{stage}_conv{i}")
                x = layers.act(layers.normalize(x, name=f"stage{stage}_norm{i}"))
            if min(x.shape[1:3]) < 2:
                h, w = images.shape[1:3]
                raise ValueError(
                    f"vgg halves its images five times, and these are {h}x{w}: they must be at least 32x32"
                )
            x = endpoint(self, f"stage{stage}", pool(x))
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = endpoint(self, name, layers.act(layers.dense(x, 4096, name=name)))
            x = layers.dropout(x, self.dropout_rate)
        return layers.logits(x, self.num_classes)


def vgg(
    *,
    num_classes: PositiveInt,
    configuration: Configuration = "D",
    norm: Norm = "none",
    dropout_rate: Fraction = 0.5,
    **options: Unpack[LayerOptions],
) -> VGG:
    """A VGG network: 11 layers with weights (A), 13 (B), 16 (C, whose third convolutions are 1x1, and D) or 19 (E).

    Args:
      num_classes: number of logits.
      configuration: which column of the paper's table 1.
      norm: after every convolution, which has a bias all the same; "batch" is torchvision's vgg_bn.
      dropout_rate: after each of the first two dense layers.
      options: see `Layers`.
    """
    return VGG(
        num_classes=num_classes,
        configuration=configuration,
        dropout_rate=dropout_rate,
        layers=Layers(norm=norm, bias=True, head_init=options.get("kernel_init", "he"), **options),
    )
