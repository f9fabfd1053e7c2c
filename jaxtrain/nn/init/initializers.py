"""Initializers of kernels in the untruncated form that the papers have; flax's own are cut off at two deviations.

A kernel is `(..., inputs, outputs)`; what is before the inputs is the window of a convolution, whose places count in
the fan. For a grouped convolution the inputs are those of one group.
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
"""By name, for the options of models; see `initializer`."""


def he(scale: PositiveFloat = 2.0) -> Initializer:
    """N(0, 2 / fan_in) (He et al. 2015, equation 10), for layers that a ReLU follows."""
    return initializers.variance_scaling(scale, "fan_in", "normal")


def he_fan_out(scale: PositiveFloat = 2.0) -> Initializer:
    """N(0, 2 / fan_out) (He et al. 2015, equation 14): gradients keep their size, not values; torchvision's ResNets."""
    return initializers.variance_scaling(scale, "fan_out", "normal")


def xavier() -> Initializer:
    """N(0, 1 / fan_in), the simplified form (LeCun et al. 1998; as Caffe has "xavier"), for tanh and linear layers."""
    return initializers.variance_scaling(1.0, "fan_in", "normal")


def glorot() -> Initializer:
    """N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 12)."""
    return initializers.variance_scaling(1.0, "fan_avg", "normal")


def glorot_uniform() -> Initializer:
    """Uniform with the variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 16)."""
    return initializers.variance_scaling(1.0, "fan_avg", "uniform")


def normal(deviation: NonNegativeFloat = 0.01) -> Initializer:
    """N(0, deviation^2), whatever the fan: small random numbers; 0.01 is what AlexNet and VGG have."""
    return initializers.normal(deviation)


def constant(value: float = 0.0) -> Initializer:
    """The same number everywhere: all units of a layer then get the same gradient, and stay the same."""
    return initializers.constant(value)


def orthogonal(gain: PositiveFloat = 1.0, groups: int = 1) -> Initializer:
    """`gain` times a matrix with orthonormal columns, or rows where it has more columns (Saxe et al. 2013, section 3).

    The matrix is `[window * inputs, outputs]`, uniform among those of its shape, and made in float32 at least.

    Args:
      gain: 1 for linear layers, sqrt(2) where a ReLU follows; tanh takes a little more than 1.
      groups: of a grouped convolution; each group's matrix is drawn on its own.

    Raises:
      ValueError: when called, for a kernel of one axis, or for outputs that do not divide into the groups.
    """

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        if len(shape) < 2 or shape[-1] % groups:
            raise ValueError(f"a kernel of shape {tuple(shape)} is no matrix for each of {groups} groups")
        wide = np.promote_types(dtype, np.float32)
        rows, columns = math.prod(shape[:-1]), shape[-1] // groups
        matrices = jax.random.orthogonal(key, rows, (groups,), wide, columns)  # [groups, rows, columns]
        return (gain * jnp.moveaxis(matrices, 0, 1)).reshape(shape).astype(dtype)

    return draw


def random_walk(follows: Literal["relu", "linear"] = "relu") -> Initializer:
    """N(0, g^2 / fan_in), g such that the logarithm of a gradient's norm walks without drift (Sussillo & Abbott 2014).

    For layers with N inputs, g is sqrt(2) exp(1.2 / (max(N, 6) - 2.4)) before a ReLU, and exp(1 / (2 N)) without an
    activation. It corrects He's and Xavier's for what one layer loses in the mean of the logarithm, which is much only
    in narrow nets.

    Args:
      follows: what comes after the layer.
    """

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        inputs = math.prod(shape[:-1])
        relu = math.sqrt(2) * math.exp(1.2 / (max(inputs, 6) - 2.4))
        gain = relu if follows == "relu" else math.exp(1 / (2 * inputs))
        return gain / math.sqrt(inputs) * jax.random.normal(key, shape, dtype)

    return draw


def dirac() -> Initializer:
    """The first outputs are the inputs, one by one, at the window's center; the other outputs are random.

    These are uniform in +-1 / sqrt(fan_in), torch's default. As in Jordan 2024 (arXiv:2404.00498, section 3.3), after
    Zagoruyko & Komodakis 2017 (DiracNets, arXiv:1706.00388). A window of even sides has its center at the later place,
    as torch's `dirac_` has it; where there are fewer outputs than inputs, the last inputs are left out.
    """
    rest = initializers.variance_scaling(1 / 3, "fan_in", "uniform")

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        inputs, outputs = shape[-2:]
        same = min(inputs, outputs)
        center = tuple(side // 2 for side in shape[:-2])
        identity = jnp.zeros((*shape[:-1], same), dtype).at[center].set(jnp.eye(inputs, same, dtype=dtype))
        return jnp.concatenate([identity, rest(key, shape, dtype)[..., same:]], axis=-1)

    return draw


def initializer(name: KernelInit) -> Initializer:
    """The initializer called `name`; "normal" is the N(0, 0.01^2) of AlexNet and VGG, "lecun" flax's default."""
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
