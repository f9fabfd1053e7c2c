"""Initializers of kernels with the papers' normal distributions; flax truncates its own at two standard deviations.

A kernel has shape `(..., inputs, outputs)`. The axes before the inputs are the window of a convolution, whose positions
count in the fan. For a grouped convolution, the inputs are those of one group.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import initializers

from jaxtrain.annotations import NonNegativeFloat, PositiveFloat

Initializer = initializers.Initializer
KernelInit = Literal[
    "he",
    "he_fan_out",
    "xavier",
    "glorot",
    "glorot_uniform",
    "lecun",
    "orthogonal",
    "random_walk",
    "normal",
    "zeros",
    "dirac",
]
"""The names of initializers for the options of models; see `initializer`."""


def he(scale: PositiveFloat = 2.0) -> Initializer:
    """Return the initializer N(0, 2 / fan_in) for layers before a ReLU (He et al. 2015, equation 10).

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.he()(jax.random.key(0), (100, 50)).var():.2f}")
      0.02
    """
    return initializers.variance_scaling(scale, "fan_in", "normal")


def he_fan_out(scale: PositiveFloat = 2.0) -> Initializer:
    """Return the initializer N(0, 2 / fan_out) (He et al. 2015, equation 14), as in torchvision's ResNets.

    It keeps the scale of gradients rather than of activations.

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.he_fan_out()(jax.random.key(0), (50, 100)).var():.2f}")
      0.02
    """
    return initializers.variance_scaling(scale, "fan_out", "normal")


def xavier() -> Initializer:
    """Return the initializer N(0, 1 / fan_in) for tanh and linear layers (LeCun et al. 1998; Caffe's "xavier").

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.xavier()(jax.random.key(0), (100, 50)).var():.2f}")
      0.01
    """
    return initializers.variance_scaling(1.0, "fan_in", "normal")


def glorot() -> Initializer:
    """Return the initializer N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 12).

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.glorot()(jax.random.key(0), (150, 50)).var():.2f}")
      0.01
    """
    return initializers.variance_scaling(1.0, "fan_avg", "normal")


def glorot_uniform() -> Initializer:
    """Return the uniform initializer of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 16).

    Example:
      >>> import jax, jaxtrain
      >>> kernel = jaxtrain.nn.init.glorot_uniform()(jax.random.key(0), (150, 50))
      >>> print(f"{kernel.max():.2f}")
      0.17
    """
    return initializers.variance_scaling(1.0, "fan_avg", "uniform")


def normal(deviation: NonNegativeFloat = 0.01) -> Initializer:
    """Return the initializer N(0, deviation^2), independent of the fan; AlexNet and VGG use 0.01.

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.normal(0.01)(jax.random.key(0), (100, 50)).std():.2f}")
      0.01
    """
    return initializers.normal(deviation)


def constant(value: float = 0.0) -> Initializer:
    """Return the initializer that sets every weight to `value`.

    All units of a layer then get the same gradient, so they stay equal.

    Example:
      >>> import jax, jaxtrain
      >>> jaxtrain.nn.init.constant(0.5)(jax.random.key(0), (2, 2)).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    return initializers.constant(value)


def orthogonal(gain: PositiveFloat = 1.0, groups: int = 1) -> Initializer:
    """Return the initializer with orthonormal columns, or rows if there are fewer (Saxe et al. 2013, section 3).

    The kernel is `gain` times a matrix `[window * inputs, outputs]` that is drawn uniformly from the orthonormal ones,
    in float32 or wider.

    Args:
      gain: the factor of the matrix: 1 for linear layers, sqrt(2) before a ReLU, a little more than 1 for tanh.
      groups: the number of groups of a grouped convolution; each group's matrix is drawn separately.

    Raises:
      ValueError: raised by the initializer if the kernel has one axis, or the groups do not divide the outputs.

    Example:
      >>> import jax, jaxtrain
      >>> kernel = jaxtrain.nn.init.orthogonal()(jax.random.key(0), (4, 2))
      >>> print(abs(kernel.T @ kernel).round(2))
      [[1. 0.]
       [0. 1.]]
    """

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        if len(shape) < 2 or shape[-1] % groups:
            raise ValueError(
                f"orthogonal: a kernel of shape {tuple(shape)} cannot be divided into matrices for {groups} groups"
            )
        wide = np.promote_types(dtype, np.float32)
        rows, columns = math.prod(shape[:-1]), shape[-1] // groups
        matrices = jax.random.orthogonal(key, rows, (groups,), wide, columns)  # [groups, rows, columns]
        return (gain * jnp.moveaxis(matrices, 0, 1)).reshape(shape).astype(dtype)

    return draw


def random_walk(follows: Literal["relu", "linear"] = "relu") -> Initializer:
    """Return the initializer N(0, g^2 / fan_in) of random walk initialization (Sussillo & Abbott 2014).

    The gain g makes the logarithm of the gradient's norm a random walk over layers without drift. For layers with N
    inputs, g is sqrt(2) exp(1.2 / (max(N, 6) - 2.4)) before a ReLU, and exp(1 / (2 N)) without an activation. Compared
    to He and Xavier initialization it corrects the loss per layer in the mean logarithm, which is large only in narrow
    nets.

    Args:
      follows: the activation after the layer.

    Example:
      >>> import jax, jaxtrain
      >>> print(f"{jaxtrain.nn.init.random_walk()(jax.random.key(0), (10, 500)).var():.2f}")
      0.28
    """

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        inputs = math.prod(shape[:-1])
        relu = math.sqrt(2) * math.exp(1.2 / (max(inputs, 6) - 2.4))
        gain = relu if follows == "relu" else math.exp(1 / (2 * inputs))
        return gain / math.sqrt(inputs) * jax.random.normal(key, shape, dtype)

    return draw


def dirac() -> Initializer:
    """Return the initializer with which the first outputs copy the inputs at the window's center.

    The kernels of the other outputs are uniform in +-1 / sqrt(fan_in), torch's default. This is the initialization of
    Jordan 2024 (arXiv:2404.00498, section 3.3), after Zagoruyko & Komodakis 2017 (DiracNets, arXiv:1706.00388). The
    center of an even side is the later of the two middle positions, as in torch's `dirac_`. If there are fewer outputs
    than inputs, the last inputs are not copied.

    Example:
      >>> import jax, jaxtrain
      >>> jaxtrain.nn.init.dirac()(jax.random.key(0), (3, 1, 2, 2))[1, 0].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    rest = initializers.variance_scaling(1 / 3, "fan_in", "uniform")

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        inputs, outputs = shape[-2:]
        copies = min(inputs, outputs)
        center = tuple(side // 2 for side in shape[:-2])
        identity = jnp.zeros((*shape[:-1], copies), dtype).at[center].set(jnp.eye(inputs, copies, dtype=dtype))
        return jnp.concatenate([identity, rest(key, shape, dtype)[..., copies:]], axis=-1)

    return draw


def initializer(name: KernelInit) -> Initializer:
    """Return the initializer called `name`; "normal" is N(0, 0.01^2) as in AlexNet and VGG, "lecun" is flax's default.

    Example:
      >>> import jax, jaxtrain
      >>> jaxtrain.nn.init.initializer("zeros")(jax.random.key(0), (2, 2)).tolist()
      [[0.0, 0.0], [0.0, 0.0]]
    """
    return _BY_NAME[name]


_BY_NAME: dict[str, Initializer] = {
    "he": he(),
    "he_fan_out": he_fan_out(),
    "xavier": xavier(),
    "glorot": glorot(),
    "glorot_uniform": glorot_uniform(),
    "lecun": initializers.lecun_normal(),
    "orthogonal": orthogonal(),
    "random_walk": random_walk(),
    "normal": normal(),
    "zeros": constant(),
    "dirac": dirac(),
}
