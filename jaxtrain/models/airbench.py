"""Airbench, the small convolutional net of CIFAR-10 speedruns (Jordan 2024, arXiv:2404.00498, section 3.1, listing 1).

The paper is "94% on CIFAR-10 in 3.29 seconds on a single GPU". It builds on Page 2019 (ResNet-9, "How to train your
ResNet") and T. Balsam's hlb-CIFAR10 (2023). The latter introduced the size of the whitening layer, the wide last
pooling and the scaled head.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveFloat, PositiveInt
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.init.initializers import KernelInit
from jaxtrain.nn.layers import DType, LayerBuilder, endpoint
from jaxtrain.nn.normalization import BatchNorm
from jaxtrain.nn.pooling import pool

_LAST_POOL = 3


class Airbench(nn.Module):
    """Airbench: a 2x2 convolution `whiten`, three groups of two convolutions, a 3x3 max pooling, scaled `logits`.

    A group is convolution, 2x2 pooling, normalization, activation, then convolution, normalization, activation.
    The first layer has twice as many output channels as inputs, for the principal components of patches and their
    negatives (`jaxtrain list initializations`: whiten_patches). The scales of the normalizations are ordinary
    parameters here and constants 1 in the paper: freeze `norm.*/scale` to reproduce it.

    Endpoints: "whitened", "group1" to "group3".

    Attributes:
      num_classes: number of logits.
      widths: channels of each group.
      window: kernel size of the first layer.
      logit_scale: factor of the logits.
      decay: decay of the running statistics of batch normalization.
      layers: options that all layers share.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 256, 256)
    window: int = 2
    logit_scale: float = 1 / 9
    decay: float = 0.6
    layers: LayerBuilder = LayerBuilder(activation="gelu", kernel_init="dirac")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        inputs = self.window**2 * images.shape[-1]
        x = layers.conv(images, 2 * inputs, self.window, padding=0, bias=True, name="whiten")
        x = endpoint(self, "whitened", layers.act(x))
        for group, features in enumerate(self.widths, 1):
            x = layers.conv(x, features, name=f"group{group}_conv1")
            x = layers.act(self._normalize(_max_pool(x, 2), layers, f"group{group}_norm1"))
            x = layers.conv(x, features, name=f"group{group}_conv2")
            x = endpoint(self, f"group{group}", layers.act(self._normalize(x, layers, f"group{group}_norm2")))
        x = _max_pool(x, _LAST_POOL)
        x = x.reshape(x.shape[0], -1)
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default
        head = nn.Dense(self.num_classes, use_bias=False, kernel_init=uniform, **_dtypes(layers), name="logits")
        logits = head(x)
        return self.logit_scale * (logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits)

    def _normalize(self, x: jax.Array, layers: LayerBuilder, name: str) -> jax.Array:
        settings: dict[str, Any] = {"epsilon": 1e-12, "unbiased": True, **_dtypes(layers), "name": name}
        return BatchNorm(train=layers.train, decay=self.decay, **settings)(x)


def _dtypes(layers: LayerBuilder) -> dict[str, Any]:
    return {"dtype": jnp.dtype(layers.dtype), "param_dtype": jnp.dtype(layers.param_dtype)}


def _max_pool(x: jax.Array, window: int) -> jax.Array:
    if min(x.shape[1:3]) < window:
        raise ValueError(
            f"airbench needs images of at least 25x25: the feature map before a {window}x{window} pooling is only "
            f"{x.shape[1]}x{x.shape[2]}; set data.resize or data.pad"
        )
    return pool(x, window=window)


def airbench(
    *,
    num_classes: PositiveInt,
    widths: tuple[PositiveInt, ...] = (64, 256, 256),
    window: PositiveInt = 2,
    logit_scale: PositiveFloat = 1 / 9,
    decay: Fraction = 0.6,
    activation: Activation = "gelu",
    kernel_init: KernelInit = "dirac",
    dtype: DType = "float32",
    param_dtype: DType = "float32",
) -> Airbench:
    """Build the net of CIFAR-10 speedruns (Jordan 2024, listing 1), for images of at least 25x25.

    Args:
      num_classes: number of logits.
      widths: channels of each group.
      window: kernel size of the first layer.
      logit_scale: factor of the logits.
      decay: decay of the running statistics of batch normalization.
      activation: activation after each normalization and after the first layer.
      kernel_init: initializer of the convolutions. With "dirac" the first output channels of each convolution start
        as the identity.
      dtype: dtype of the computation; normalizations compute in float32 at least.
      param_dtype: dtype of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.airbench94(num_classes=10)
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> variables["params"]["whiten"]["kernel"].shape  # 2 * 2 * 2 * 3 filters
      (2, 2, 3, 24)
      >>> sum(x.size for x in jax.tree.leaves(variables["params"]))
      1972792
    """
    layers = LayerBuilder(activation=activation, kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype)
    return Airbench(num_classes, widths, window, logit_scale, decay, layers)
