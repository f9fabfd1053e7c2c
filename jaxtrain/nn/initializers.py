"""Initializers of kernels in the untruncated form that the papers have; flax's own are cut off at two deviations.

A kernel is `(..., inputs, outputs)`; what is before the inputs is the window of a convolution, whose places count in
the fan. For a grouped convolution the inputs are those of one group.
"""

from typing import Literal

from flax.linen import initializers

from jaxtrain.config.annotations import PositiveFloat

Initializer = initializers.Initializer
KernelInit = Literal["he", "he_fan_out", "xavier", "glorot", "glorot_uniform", "lecun", "orthogonal", "normal"]
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
    "orthogonal": initializers.orthogonal(),
    "normal": initializers.normal(0.01),
}
