"""The original LeNet-5 (LeCun et al. 1998, section II.B): sparse C3, trainable subsampling, distances to templates."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.annotations import PositiveInt
from jaxtrain.nn.activations import scaled_tanh
from jaxtrain.nn.layers import DType, LayerBuilder, endpoint
from jaxtrain.nn.pooling import Subsampling
from jaxtrain.xla_cpu.convolutions import conv_general_dilated

CONNECTIONS: tuple[tuple[int, ...], ...] = (
    *(tuple((i + j) % 6 for j in range(3)) for i in range(6)),
    *(tuple((i + j) % 6 for j in range(4)) for i in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    tuple(range(6)),
)
"""Indices of the S2 maps that feed each of the 16 C3 maps: table I of the paper."""

Templates = Literal["digits", "random"]

_DIGITS = """
..###.. ...#... ..###.. ..###.. ....##. ####### ...###. ####### ..###.. ..###..
.##.##. ..##... .##.##. .##.##. ...###. ##..... ..##... .....## .##.##. .##.##.
##...## .###... ##...## ##...## ..####. ##..... .##.... .....## ##...## ##...##
##...## ..##... .....## .....## ..#.##. ##..... ##..... ....##. ##...## ##...##
##...## ..##... .....## .....## .##.##. #####.. ##..... ....##. .##.##. ##...##
##...## ..##... ....##. ...###. .#..##. ....##. #####.. ...##.. ..###.. .######
##...## ..##... ...##.. .....## ##..##. .....## ##..##. ...##.. .##.##. ..##.##
##...## ..##... ..##... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ..##... .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ..##... ##..... ##...## ....##. ##...## ##...## .##.... ##...## ....##.
.##.##. ..##... ##..... .##.##. ....##. .##.##. .##.##. .##.... .##.##. ...##..
..###.. .####.. ####### ..###.. ....##. ..###.. ..###.. .##.... ..###.. .###...
"""


def templates(kind: Templates, num_classes: int) -> np.ndarray:
    """Return the target of layer F6 for each class: f32[num_classes, 84] of -1 and 1.

    "digits" are 7x12 bitmaps after the paper's figure 3, since the paper does not publish its bitmaps as numbers.
    "random" is a fixed random code for any number of classes; the paper says that random codes work as well.

    Raises:
      ValueError: if `kind` is "digits" and there are more than ten classes.
    """
    if kind == "random":
        return np.random.default_rng(1998).choice(np.array([-1, 1], np.float32), (num_classes, 84))
    if num_classes > 10:
        raise ValueError(
            f"templates=digits has templates for 10 digits, not for {num_classes} classes: set templates=random"
        )
    rows = [row.split() for row in _DIGITS.split("\n") if row]
    bitmaps = ["".join(row[digit] for row in rows) for digit in range(10)]
    return np.array([[1.0 if c == "#" else -1.0 for c in bits] for bits in bitmaps]).astype(np.float32)[:num_classes]


class SparseConv(nn.Module):
    """A 5x5 convolution between selected pairs of input and output maps, with one kernel per pair.

    Attributes:
      connections: indices of the input maps of each output map.
      param_dtype: dtype of kernels and biases.
    """

    connections: tuple[tuple[int, ...], ...]
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H - 4, W - 4, len(connections)]`."""
        outputs = np.array([o for o, sources in enumerate(self.connections) for _ in sources])
        inputs = np.array([i for sources in self.connections for i in sources])
        fan_in = np.array([25 * len(self.connections[o]) for o in outputs])

        def init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
            return jax.random.normal(key, shape, dtype) / jnp.sqrt(jnp.asarray(fan_in, dtype)).reshape(1, 1, -1)

        kernel = self.param("kernel", init, (5, 5, len(outputs)), self.param_dtype).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(self.connections),), self.param_dtype).astype(x.dtype)
        dense = (
            jnp.zeros((5, 5, x.shape[-1], len(self.connections)), kernel.dtype).at[:, :, inputs, outputs].set(kernel)
        )
        y = conv_general_dilated(x, dense, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.reshape(1, 1, 1, -1)


class LeNet1998(nn.Module):
    """The original LeNet-5: C1, S2, C3, S4, C5, F6, each with the scaled tanh, then distances to fixed templates.

    A logit is minus the squared distance between F6 and the class's template (equation 7 with the opposite sign). The
    cross-entropy is therefore the paper's criterion (equation 9) without its constant, and the loss `template_mse` is
    equation 8.

    Endpoints: "C1" to "F6".

    Attributes:
      num_classes: number of logits.
      templates: kind of the templates.
      dtype: dtype of the computation up to F6; distances are float32 at least.
      param_dtype: dtype of the parameters.
    """

    num_classes: int
    templates: Templates = "digits"
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, 32, 32, C] -> logits f32[N, num_classes]."""
        if images.shape[1:3] != (32, 32):
            h, w = images.shape[1:3]
            raise ValueError(f"lenet5_1998 needs images of 32x32, but these are {h}x{w}: set data.resize or data.pad")
        layers = LayerBuilder(
            norm="none", kernel_init="xavier", dtype=self.dtype, param_dtype=self.param_dtype, train=train
        )
        param_dtype = jnp.dtype(self.param_dtype)
        x = images.astype(self.dtype)
        x = self._layer("C1", layers.conv(x, 6, 5, padding=0, name="c1"))
        x = self._layer("S2", Subsampling(param_dtype=param_dtype, name="s2")(x))
        x = self._layer("C3", SparseConv(CONNECTIONS, param_dtype=param_dtype, name="c3")(x))
        x = self._layer("S4", Subsampling(param_dtype=param_dtype, name="s4")(x))
        x = self._layer("C5", layers.conv(x, 120, 5, padding=0, name="c5"))
        x = self._layer("F6", layers.dense(x.reshape(x.shape[0], -1), 84, name="f6"))
        x = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
        targets = jnp.asarray(templates(self.templates, self.num_classes), x.dtype)
        return -jnp.square(x[:, None, :] - targets[None]).sum(axis=-1)

    def _layer(self, name: str, x: jax.Array) -> jax.Array:
        return endpoint(self, name, scaled_tanh(x))


def lenet5_1998(
    *,
    num_classes: PositiveInt,
    templates: Templates = "digits",
    dtype: DType = "float32",
    param_dtype: DType = "float32",
) -> LeNet1998:
    """Build the original LeNet-5: 60,000 trained parameters and 340,908 connections, for images of 32x32.

    Args:
      num_classes: number of logits.
      templates: targets of F6: bitmaps of the ten digits, or a fixed random code for any number of classes.
      dtype: dtype of the computation up to F6.
      param_dtype: dtype of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.lenet5_1998(num_classes=10)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 1)))
      >>> variables["params"]["c3"]["kernel"].shape  # 60 connections instead of 6 * 16
      (5, 5, 60)
      >>> sum(x.size for x in jax.tree.leaves(variables))
      60000
    """
    return LeNet1998(num_classes=num_classes, templates=templates, dtype=dtype, param_dtype=param_dtype)
