"""GoogLeNet (Szegedy et al. 2015, arXiv:1409.4842, table 1), its Inception module and the naive Inception module."""

from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveFloat, PositiveInt
from jaxtrain.models.outputs import Outputs
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, Remat, endpoint
from jaxtrain.nn.normalization import Norm, local_response_norm
from jaxtrain.nn.pooling import average_pool, global_pool, max_pool

Widths = tuple[int, int, int, int, int, int]
"""Channels of 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after the pooling."""

MODULES: dict[str, Widths] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = ("4a", "4d")
"""Modules that are followed by an auxiliary head."""


class Inception(nn.Module):
    """The Inception module (figure 2b): branches 1x1; 1x1 and 3x3; 1x1 and 5x5; 3x3 pooling and 1x1, concatenated.

    Attributes:
      layers: options that all layers share.
      widths: channels of the convolutions.
      window: kernel size of the third branch: 5 as published, 3 as in torchvision.
    """

    layers: LayerBuilder
    widths: Widths
    window: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H, W, sum of the branches' channels]`."""
        one, reduce3, three, reduce5, five, after_pool = self.widths
        branches = (
            conv_norm_act(self.layers, x, one, 1, name="conv1x1"),
            self._reduce_and_conv(x, reduce3, three, 3, "conv3x3"),
            self._reduce_and_conv(x, reduce5, five, self.window, "conv5x5"),
            conv_norm_act(self.layers, max_pool(x, 3, 1, padding=1), after_pool, 1, name="pool_conv"),
        )
        return jnp.concatenate(branches, axis=-1)

    def _reduce_and_conv(self, x: jax.Array, reduce: int, features: int, window: int, name: str) -> jax.Array:
        x = conv_norm_act(self.layers, x, reduce, 1, name=f"{name}_reduce")
        return conv_norm_act(self.layers, x, features, window, name=name)


class NaiveInception(nn.Module):
    """The naive Inception module (figure 2a), without the 1x1 convolutions that reduce the number of channels.

    Attributes:
      layers: options that all layers share.
      widths: channels of the 1x1, 3x3 and 5x5 convolutions.
    """

    layers: LayerBuilder
    widths: tuple[int, int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H, W, sum of widths + C]`."""
        convolutions = (
            conv_norm_act(self.layers, x, features, window, name=f"conv{window}x{window}")
            for features, window in zip(self.widths, (1, 3, 5), strict=True)
        )
        return jnp.concatenate([*convolutions, max_pool(x, 3, 1, padding=1)], axis=-1)


class AuxiliaryHead(nn.Module):
    """An auxiliary head: 5x5 average pooling with stride 3, 1x1 convolution, dense layer, dropout, logits.

    Attributes:
      layers: options that all layers share.
      num_classes: number of logits.
      dropout_rate: dropout rate after the dense layer.
    """

    layers: LayerBuilder
    num_classes: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]`, 14x14 for images of 224 -> `[N, num_classes]`."""
        layers = self.layers
        x = conv_norm_act(layers, average_pool(x, 5, 3), 128, 1, name="conv")
        x = layers.act(layers.dense(x.reshape(x.shape[0], -1), 1024, name="fc"))
        return layers.logits(layers.dropout(x, self.dropout_rate), self.num_classes)


def conv_norm_act(
    layers: LayerBuilder, x: jax.Array, features: int, window: int, *, stride: int = 1, name: str
) -> jax.Array:
    """Apply a convolution, the normalization of `layers` (if any) and the activation."""
    x = layers.conv(x, features, window, stride=stride, name=name)
    return layers.act(layers.normalize(x, name=f"{name}_norm"))


class GoogLeNet(nn.Module):
    """GoogLeNet: three convolutions, nine Inception modules `inception_3a` to `inception_5b`, global average, `logits`.

    In training with auxiliary heads it returns `Outputs`, with the logits of `auxiliary_4a` and `auxiliary_4d`.

    Endpoints: "stem", "inception_3a" and so on, "pooled".

    Attributes:
      num_classes: number of logits.
      auxiliary: whether to build the two auxiliary heads.
      auxiliary_weight: weight of the loss of each auxiliary head.
      window: kernel size of the third branches.
      last_pool: window of the pooling before module 5a.
      dropout_rate: dropout rate before the logits.
      auxiliary_dropout_rate: dropout rate before the logits of the auxiliary heads.
      layers: options that all layers share; with norm="none" the stem has local response normalization.
    """

    num_classes: int
    auxiliary: bool = True
    auxiliary_weight: float = 0.3
    window: int = 5
    last_pool: int = 3
    dropout_rate: float = 0.4
    auxiliary_dropout_rate: float = 0.7
    layers: LayerBuilder = LayerBuilder(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Any:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes], or `Outputs` in training with auxiliary heads."""
        layers = self.layers.at(train=train)
        x = endpoint(self, "stem", self._stem(layers, images))
        module = layers.block(Inception)
        heads = []
        for name, widths in MODULES.items():
            if name in ("4a", "5a"):
                x = max_pool(x, 3 if name == "4a" else self.last_pool, 2, ceil=True)
            x = module(layers=layers, widths=widths, window=self.window, name=f"inception_{name}")(x)
            x = endpoint(self, f"inception_{name}", x)
            if name in AUXILIARY and self.auxiliary and (train or self.is_initializing()):
                head = AuxiliaryHead(layers, self.num_classes, self.auxiliary_dropout_rate, name=f"auxiliary_{name}")
                if min(x.shape[1:3]) < 5:
                    h, w = images.shape[1:3]
                    raise ValueError(
                        f"googlenet's auxiliary heads need images of at least 79x79 (224x224 in the paper), but these "
                        f"are {h}x{w}: set model.auxiliary=false or data.resize"
                    )
                heads.append(head(x))
        x = endpoint(self, "pooled", global_pool(x))
        x = layers.dropout(x, self.dropout_rate)
        logits = layers.logits(x, self.num_classes)
        return Outputs(logits, tuple(heads), self.auxiliary_weight) if train and heads else logits

    def _stem(self, layers: LayerBuilder, images: jax.Array) -> jax.Array:
        def normalize(x: jax.Array) -> jax.Array:
            return local_response_norm(x) if self.layers.norm == "none" else x

        x = conv_norm_act(layers, images, 64, 7, stride=2, name="conv1")
        x = normalize(max_pool(x, 3, 2, ceil=True))
        x = conv_norm_act(layers, x, 64, 1, name="conv2_reduce")
        x = normalize(conv_norm_act(layers, x, 192, 3, name="conv2"))
        return max_pool(x, 3, 2, ceil=True)


def googlenet(
    *,
    num_classes: PositiveInt,
    auxiliary: bool = True,
    auxiliary_weight: Fraction = 0.3,
    norm: Norm = "none",
    epsilon: PositiveFloat = 1e-5,
    window: Literal[3, 5] = 5,
    last_pool: Literal[2, 3] = 3,
    dropout_rate: Fraction = 0.4,
    auxiliary_dropout_rate: Fraction = 0.7,
    remat: Remat = False,
    **options: Unpack[LayerOptions],
) -> GoogLeNet:
    """Build GoogLeNet for images of 224: 6,998,552 parameters, 13,378,280 with its auxiliary heads.

    torchvision's version has norm="batch", epsilon=0.001, window=3 and last_pool=2.

    Args:
      num_classes: number of logits.
      auxiliary: whether to build the two auxiliary heads, which exist in training only. They are made for images of
        224 and need at least 79.
      auxiliary_weight: weight of the loss of each auxiliary head.
      norm: normalization after each convolution; "none" adds biases, and local response normalization in the stem.
      epsilon: epsilon of the normalization.
      window: kernel size of the third branches: 5 as published, 3 as in torchvision.
      last_pool: window of the last max pooling.
      dropout_rate: dropout rate before the logits.
      auxiliary_dropout_rate: dropout rate before the logits of the auxiliary heads.
      remat: whether to recompute each module in the backward pass instead of storing its activations (`LayerBuilder`).
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.googlenet(num_classes=10, auxiliary=False, norm="batch")
      >>> model.auxiliary, model.window, model.dropout_rate
      (False, 5, 0.4)
    """
    return GoogLeNet(
        num_classes=num_classes,
        auxiliary=auxiliary,
        auxiliary_weight=auxiliary_weight,
        window=window,
        last_pool=last_pool,
        dropout_rate=dropout_rate,
        auxiliary_dropout_rate=auxiliary_dropout_rate,
        layers=LayerBuilder(norm=norm, epsilon=epsilon, remat=remat, **options),
    )
