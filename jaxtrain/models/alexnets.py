"""AlexNet (Krizhevsky, Sutskever & Hinton 2012) and ZFNet (Zeiler & Fergus 2014, arXiv:1311.2901)."""

import dataclasses
from typing import Literal, Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, endpoint
from jaxtrain.nn.normalization import local_response_norm
from jaxtrain.nn.pooling import max_pool

NormPosition = Literal["before_pool", "after_pool", "none"]
"""Position of the local response normalization: before the first two poolings (as published), after them, or none."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Options of one convolution: channels, kernel size, stride, padding, groups, and whether a pooling follows."""

    features: int
    window: int
    stride: int = 1
    padding: int = 1
    groups: int = 1
    pooled: bool = False


class AlexNet(nn.Module):
    """AlexNet: convolutions `conv1` to `conv5`, 3x3 poolings of stride 2, `fc1`, `fc2` with dropout, `logits`.

    Endpoints: "conv1" to "conv5" after the activation, "pool1", "pool2", "pool5" after pooling and normalization,
    "fc1", "fc2".

    Attributes:
      num_classes: number of logits.
      convolutions: options of the five convolutions.
      norm_position: position of the local response normalization.
      ceil: whether the last pooling window may extend past the edge (torch's `ceil_mode`).
      dropout_rate: dropout rate after each of the first two dense layers.
      layers: options that all layers share.
    """

    num_classes: int
    convolutions: tuple[Convolution, ...]
    norm_position: NormPosition = "before_pool"
    ceil: bool = False
    dropout_rate: float = 0.5
    layers: LayerBuilder = LayerBuilder(norm="none")

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
                x = endpoint(self, f"pool{i}", self._pool(x, with_norm=i <= 2))
        x = x.reshape(x.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = endpoint(self, name, layers.act(layers.dense(x, 4096, name=name)))
            x = layers.dropout(x, self.dropout_rate)
        return layers.logits(x, self.num_classes)

    def _pool(self, x: jax.Array, *, with_norm: bool) -> jax.Array:
        if with_norm and self.norm_position == "before_pool":
            x = local_response_norm(x)
        x = max_pool(x, 3, 2, ceil=self.ceil)
        return local_response_norm(x) if with_norm and self.norm_position == "after_pool" else x


def _layers(options: LayerOptions) -> LayerBuilder:
    return LayerBuilder(norm="none", head_init=options.get("kernel_init", "he"), **options)


def alexnet(
    *,
    num_classes: PositiveInt,
    towers: Literal[1, 2] = 2,
    image_size: Literal[224, 227] = 227,
    norm_position: NormPosition = "before_pool",
    dropout_rate: Fraction = 0.5,
    **options: Unpack[LayerOptions],
) -> AlexNet:
    """Build the AlexNet of 2012. torchvision's `alexnet` is a different network, of 2014.

    Args:
      num_classes: number of logits.
      towers: number of groups of the second, fourth and fifth convolutions: 2 as published (60,965,224 parameters), or
        1 (62,378,344).
      image_size: height and width of the images; `conv1` has no padding for 227, and a padding of 2 for 224.
      norm_position: position of the local response normalization.
      dropout_rate: dropout rate after each of the first two dense layers.
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.alexnet(num_classes=1000)
      >>> images = jax.ShapeDtypeStruct((1, 227, 227, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> sum(x.size for x in jax.tree.leaves(variables))
      60965224
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
    """Build ZFNet for images of 224: AlexNet with one tower and a first convolution of 7x7 and stride 2.

    Local response normalization stands in for the paper's contrast normalization.

    Args:
      num_classes: number of logits.
      wide: whether the last three convolutions have 512, 1,024 and 512 channels (table 2) instead of 384, 384 and 256
        (figure 3).
      norm_position: position of the local response normalization.
      dropout_rate: dropout rate after each of the first two dense layers.
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.zfnet(num_classes=1000)
      >>> images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> sum(x.size for x in jax.tree.leaves(variables))
      62357608
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
