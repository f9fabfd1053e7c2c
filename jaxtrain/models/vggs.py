"""VGG networks A to E (Simonyan & Zisserman 2015, arXiv:1409.1556, table 1)."""

from typing import Literal, Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, endpoint
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
"""Kernel sizes of the convolutions of each stage, by configuration."""
FEATURES = (64, 128, 256, 512, 512)
"""Channels of each stage."""


class VGG(nn.Module):
    """VGG: five stages `stageI_convJ`, each with a 2x2 pooling, then `fc1`, `fc2` (4,096 units, dropout) and `logits`.

    The first dense layer takes the whole last feature map, 7x7 for images of 224. The number of parameters therefore
    depends on the image size, which must be at least 32.

    Endpoints: "stage1" to "stage5", after the pooling, "fc1", "fc2".

    Attributes:
      num_classes: number of logits.
      configuration: column of the paper's table 1.
      dropout_rate: dropout rate after each of the first two dense layers.
      layers: options that all layers share.
    """

    num_classes: int
    configuration: Configuration = "D"
    dropout_rate: float = 0.5
    layers: LayerBuilder = LayerBuilder(norm="none")

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
                    f"vgg needs images of at least 32x32 (it halves them five times), but these are {h}x{w}: "
                    "set data.resize or data.pad"
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
    """Build a VGG network: 11 weight layers (A), 13 (B), 16 (C, with 1x1 third convolutions, and D) or 19 (E).

    Args:
      num_classes: number of logits.
      configuration: column of the paper's table 1.
      norm: normalization after every convolution; the convolutions keep their biases. "batch" is torchvision's vgg_bn.
      dropout_rate: dropout rate after each of the first two dense layers.
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.vgg(num_classes=10, configuration="A", norm="batch")
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> variables["params"]["fc1"]["kernel"].shape  # (25088, 4096) for images of 224x224
      (512, 4096)
    """
    return VGG(
        num_classes=num_classes,
        configuration=configuration,
        dropout_rate=dropout_rate,
        layers=LayerBuilder(norm=norm, bias=True, head_init=options.get("kernel_init", "he"), **options),
    )
