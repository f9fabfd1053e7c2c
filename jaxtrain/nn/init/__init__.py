"""Initializers of kernels, and the registry of initializations that use training images.

Every initializer is an attribute of this package, such as `jaxtrain.nn.init.he`, imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxtrain.registry import Entry, Registry

if TYPE_CHECKING:
    from jaxtrain.nn.init.initializers import Initializer as Initializer
    from jaxtrain.nn.init.initializers import KernelInit as KernelInit
    from jaxtrain.nn.init.initializers import constant as constant
    from jaxtrain.nn.init.initializers import dirac as dirac
    from jaxtrain.nn.init.initializers import glorot as glorot
    from jaxtrain.nn.init.initializers import glorot_uniform as glorot_uniform
    from jaxtrain.nn.init.initializers import he as he
    from jaxtrain.nn.init.initializers import he_fan_out as he_fan_out
    from jaxtrain.nn.init.initializers import initializer as initializer
    from jaxtrain.nn.init.initializers import normal as normal
    from jaxtrain.nn.init.initializers import orthogonal as orthogonal
    from jaxtrain.nn.init.initializers import random_walk as random_walk
    from jaxtrain.nn.init.initializers import xavier as xavier

INITIALIZATIONS = Registry(
    "initialization",
    {
        "whiten_patches": Entry(
            "jaxtrain.nn.init.data_dependent:whiten_patches",
            "whitening filters in the first convolution: the whitened components of its patches, and their negatives",
            "Page 2019, How to train your ResNet; Jordan 2024, arXiv:2404.00498, section 3.2",
        ),
        "lsuv": Entry(
            "jaxtrain.nn.init.data_dependent:lsuv",
            "orthonormal kernels, scaled layer by layer until the outputs have variance 1",
            "Mishkin & Matas 2016, All you need is a good init, arXiv:1511.06422",
        ),
        "within_layer": Entry(
            "jaxtrain.nn.init.data_dependent:within_layer",
            "kernels and biases that give all channels of a layer the same mean and standard deviation",
            "Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 1",
        ),
    },
)

_MODULES = dict.fromkeys(
    (
        "Initializer",
        "KernelInit",
        "constant",
        "dirac",
        "glorot",
        "glorot_uniform",
        "he",
        "he_fan_out",
        "initializer",
        "normal",
        "orthogonal",
        "random_walk",
        "xavier",
    ),
    "jaxtrain.nn.init.initializers",
)
__all__ = ["INITIALIZATIONS", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
