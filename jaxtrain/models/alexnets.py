"""AlexNet (Krizhevsky, Sutskever & Hinton 2012) and ZFNet (Zeiler & Fergus 2014, arXiv:1311.2901)."""

import dataclasses
from typing import Literal, Unpack

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt
from jaxtrain.nn.layers import LayerOptions, Layers, endpoint
from jaxtrain.nn.normalization import local_response_norm
from jaxtrain.nn.pooling import max_pool

NormPosition = Literal["before_pool", "after_pool", "none"]
"""Local response normalization before the first two poolings, as published, after them, or nowhere."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One of the five: its channels, side, stride, padding, groups, and whether a pooling follows."""

    features: int
    window: int
    stride: int = 1
    padding: int = 1
    groups: int = 1
    pooled: bool = False


class AlexNet(nn.Module):
    """Five convolutions `conv1` to `conv5`, 3x3 poolings with a stride of 2, `fc1`, `fc2` with dropout, `logits`.

    Endpoints: "conv1" to "conv5" after the activation, "pool1", "pool2", "pool5" after pooling and normalization,
    "fc1", "fc2".

    Attributes:
      num_classes: number of logits.
      convolutions: five.
      norm_position: of the local response normalization.
      ceil: whether a last pooling window may hang over the end.
      dropout_rate: after each of the first two dense layers.
      layers: how layers are made.
    """

    num_classes: int
    convolutions: tuple[Convolution, ...]
    norm_position: NormPosition = "before_pool"
    ceil: bool = False
    dropout_rate: float = 0.5
    layers: Layers = Layers(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = images
        for i, c in enumerate(self.convolutions, 1):
            x = layers.conv(
                x, c.features, c.window, stride=c.stride, padding=c.padding, groups=c.groups, name=f"conv{i}"
            )
            x = endpoint(self, f"conv{i}", layers.act(x))
            if c.pooled:
                x = endpoint(self, f"pool{i}", self._pooled(x, normalized=i <= 2))
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = endpoint(self, name, layers.act(layers.dense(x, 4096, name=name)))
            x = layers.dropout(x, self.dropout_rate)
        return layers.logits(x, self.num_classes)

    def _pooled(self, x: jax.Array, *, normalized: bool) -> jax.Array:
        if normalized and self.norm_position == "before_pool":
            x = local_response_norm(x)
        x = max_pool(x, 3, 2, ceil=self.ceil)
        return local_response_norm(x) if normalized and self.norm_position == "after_pool" else x


def _layers(options: LayerOptions) -> Layers:
    return Layers(norm="none", head_init=options.get("kernel_init", "he"), **options)


def alexnet(
    *,
    num_classes: PositiveInt,
    towers: Literal[1, 2] = 2,
    image_size: Literal[224, 227] = 227,
    norm_position: NormPosition = "before_pool",
    dropout_rate: Fraction = 0.5,
    **options: Unpack[LayerOptions],
) -> AlexNet:
    """AlexNet. torchvision's net of that name is another one, of 2014.

    Args:
      num_classes: number of logits.
      towers: 2 as published, where the second, fourth and fifth convolution see half of the channels before them
        (60,965,224 parameters); 1 sees all (62,378,344).
      image_size: that `conv1` is padded for: 227 not at all, 224 by 2 on every side.
      norm_position: of the local response normalization.
      dropout_rate: after each of the first two dense layers.
      options: see `Layers`.
    """
    return AlexNet(
        num_classes=num_classes,
        convolutions=(
            Convolution(96, 11, stride=4, padding=0 if image_size == 227 else 2, pooled=True),
            Convolution(256, 5, padding=2, groups=towers, pooled=True),
            Convolution(384, 3),
            Convolution(384, 3, groups=towers),
            Convolution(256, 3, groups=towers, pooled=True),
        ),
        norm_position=norm_position,
        dropout_rate=dropout_rate,
        layers=_layers(options),
    )


def zfnet(
    *,
    num_classes: PositiveInt,
    wide: bool = False,
    norm_position: NormPosition = "after_pool",
    dropout_rate: Fraction = 0.5,
    **options: Unpack[LayerOptions],
) -> AlexNet:
    """ZFNet, for images of 224: AlexNet with a first convolution of 7x7 and a stride of 2, and one tower.

    The paper's contrast normalization is the local response normalization here.

    Args:
      num_classes: number of logits.
      wide: 512, 1,024 and 512 channels in the last three convolutions (table 2) for 384, 384 and 256 (figure 3).
      norm_position: of the normalization.
      dropout_rate: after each of the first two dense layers.
      options: see `Layers`.
    """
    third, fourth, fifth = (512, 1024, 512) if wide else (384, 384, 256)
    return AlexNet(
        num_classes=num_classes,
        convolutions=(
            Convolution(96, 7, stride=2, padding=1, pooled=True),
            Convolution(256, 5, stride=2, padding=0, pooled=True),
            Convolution(third, 3),
            Convolution(fourth, 3),
            Convolution(fifth, 3, pooled=True),
        ),
        norm_position=norm_position,
        ceil=True,
        dropout_rate=dropout_rate,
        layers=_layers(options),
    )
