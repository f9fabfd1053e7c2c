"""Layers and functions for models, initializations from data, and averages over random draws.

Every public name is an attribute of this package, such as `jaxtrain.nn.Dropout`, imported at its first use. Random
layers come in three forms: `dropout_given(mask, x, ...)` applies a given draw, `dropout(key, x, ...)` draws from a key,
and the Linen module `Dropout` draws from its random stream. Initializers of kernels are in `jaxtrain.nn.init`.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtrain.nn import activations as activations
    from jaxtrain.nn import batch_statistics as batch_statistics
    from jaxtrain.nn import folding as folding
    from jaxtrain.nn import fractal_join as fractal_join
    from jaxtrain.nn import fractional_pooling as fractional_pooling
    from jaxtrain.nn import fractional_regions as fractional_regions
    from jaxtrain.nn import init as init
    from jaxtrain.nn import layer_calls as layer_calls
    from jaxtrain.nn import layers as layers
    from jaxtrain.nn import marginalization as marginalization
    from jaxtrain.nn import normalization as normalization
    from jaxtrain.nn import pooling as pooling
    from jaxtrain.nn import shake_shake as shake_shake
    from jaxtrain.nn.activations import PReLU as PReLU
    from jaxtrain.nn.activations import activation as activation
    from jaxtrain.nn.activations import leaky_relu as leaky_relu
    from jaxtrain.nn.activations import maxout as maxout
    from jaxtrain.nn.activations import scaled_tanh as scaled_tanh
    from jaxtrain.nn.batch_statistics import recalibrate as recalibrate
    from jaxtrain.nn.dropconnect import DropConnect as DropConnect
    from jaxtrain.nn.dropconnect import dropconnect as dropconnect
    from jaxtrain.nn.dropconnect import dropconnect_given as dropconnect_given
    from jaxtrain.nn.dropconnect import dropconnect_moments as dropconnect_moments
    from jaxtrain.nn.dropconnect import mean_activation as mean_activation
    from jaxtrain.nn.dropconnect import mean_activation_given as mean_activation_given
    from jaxtrain.nn.dropout import Dropout as Dropout
    from jaxtrain.nn.dropout import alpha_dropout as alpha_dropout
    from jaxtrain.nn.dropout import alpha_dropout_given as alpha_dropout_given
    from jaxtrain.nn.dropout import draw_dropout_mask as draw_dropout_mask
    from jaxtrain.nn.dropout import draw_mask as draw_mask
    from jaxtrain.nn.dropout import dropout as dropout
    from jaxtrain.nn.dropout import dropout_given as dropout_given
    from jaxtrain.nn.dropout import gaussian_dropout as gaussian_dropout
    from jaxtrain.nn.dropout import gaussian_dropout_given as gaussian_dropout_given
    from jaxtrain.nn.folding import FoldedModel as FoldedModel
    from jaxtrain.nn.folding import fold_batch_norm as fold_batch_norm
    from jaxtrain.nn.fractal_join import draw_local_paths as draw_local_paths
    from jaxtrain.nn.fractal_join import fractal_join_given as fractal_join_given
    from jaxtrain.nn.fractal_join import global_paths as global_paths
    from jaxtrain.nn.fractal_join import local_paths_given as local_paths_given
    from jaxtrain.nn.fractional_pooling import FractionalMaxPool as FractionalMaxPool
    from jaxtrain.nn.fractional_pooling import fractional_max_pool as fractional_max_pool
    from jaxtrain.nn.fractional_pooling import fractional_max_pool_given as fractional_max_pool_given
    from jaxtrain.nn.gaussian_noise import GaussianNoise as GaussianNoise
    from jaxtrain.nn.gaussian_noise import gaussian_noise as gaussian_noise
    from jaxtrain.nn.gaussian_noise import gaussian_noise_given as gaussian_noise_given
    from jaxtrain.nn.init.between_layer import between_layers as between_layers
    from jaxtrain.nn.init.between_layer import change_rates as change_rates
    from jaxtrain.nn.init.fixup import fixup as fixup
    from jaxtrain.nn.init.fixup import fixup_scale as fixup_scale
    from jaxtrain.nn.init.lsuv import lsuv as lsuv
    from jaxtrain.nn.init.patch_whitening import whiten_first_layer as whiten_first_layer
    from jaxtrain.nn.init.within_layer import within_layer as within_layer
    from jaxtrain.nn.layers import LayerBuilder as LayerBuilder
    from jaxtrain.nn.layers import endpoint as endpoint
    from jaxtrain.nn.marginalization import draw_outputs as draw_outputs
    from jaxtrain.nn.marginalization import marginalize as marginalize
    from jaxtrain.nn.normalization import BatchNorm as BatchNorm
    from jaxtrain.nn.normalization import local_response_norm as local_response_norm
    from jaxtrain.nn.pooling import Subsampling as Subsampling
    from jaxtrain.nn.pooling import average_pool as average_pool
    from jaxtrain.nn.pooling import global_pool as global_pool
    from jaxtrain.nn.pooling import max_pool as max_pool
    from jaxtrain.nn.pooling import pool as pool
    from jaxtrain.nn.shake_shake import ShakeShake as ShakeShake
    from jaxtrain.nn.shake_shake import shake as shake
    from jaxtrain.nn.shake_shake import shake_given as shake_given
    from jaxtrain.nn.stochastic_depth import StochasticDepth as StochasticDepth
    from jaxtrain.nn.stochastic_depth import linear_survival as linear_survival
    from jaxtrain.nn.stochastic_depth import stochastic_depth as stochastic_depth
    from jaxtrain.nn.stochastic_depth import stochastic_depth_given as stochastic_depth_given

_MODULES = {
    "PReLU": "jaxtrain.nn.activations",
    "activation": "jaxtrain.nn.activations",
    "leaky_relu": "jaxtrain.nn.activations",
    "maxout": "jaxtrain.nn.activations",
    "scaled_tanh": "jaxtrain.nn.activations",
    "recalibrate": "jaxtrain.nn.batch_statistics",
    "DropConnect": "jaxtrain.nn.dropconnect",
    "dropconnect": "jaxtrain.nn.dropconnect",
    "dropconnect_given": "jaxtrain.nn.dropconnect",
    "dropconnect_moments": "jaxtrain.nn.dropconnect",
    "mean_activation": "jaxtrain.nn.dropconnect",
    "mean_activation_given": "jaxtrain.nn.dropconnect",
    "Dropout": "jaxtrain.nn.dropout",
    "alpha_dropout": "jaxtrain.nn.dropout",
    "alpha_dropout_given": "jaxtrain.nn.dropout",
    "draw_mask": "jaxtrain.nn.dropout",
    "draw_dropout_mask": "jaxtrain.nn.dropout",
    "dropout": "jaxtrain.nn.dropout",
    "dropout_given": "jaxtrain.nn.dropout",
    "gaussian_dropout": "jaxtrain.nn.dropout",
    "gaussian_dropout_given": "jaxtrain.nn.dropout",
    "FoldedModel": "jaxtrain.nn.folding",
    "fold_batch_norm": "jaxtrain.nn.folding",
    "global_paths": "jaxtrain.nn.fractal_join",
    "fractal_join_given": "jaxtrain.nn.fractal_join",
    "draw_local_paths": "jaxtrain.nn.fractal_join",
    "local_paths_given": "jaxtrain.nn.fractal_join",
    "FractionalMaxPool": "jaxtrain.nn.fractional_pooling",
    "fractional_max_pool": "jaxtrain.nn.fractional_pooling",
    "fractional_max_pool_given": "jaxtrain.nn.fractional_pooling",
    "GaussianNoise": "jaxtrain.nn.gaussian_noise",
    "gaussian_noise": "jaxtrain.nn.gaussian_noise",
    "gaussian_noise_given": "jaxtrain.nn.gaussian_noise",
    "between_layers": "jaxtrain.nn.init.between_layer",
    "change_rates": "jaxtrain.nn.init.between_layer",
    "fixup": "jaxtrain.nn.init.fixup",
    "fixup_scale": "jaxtrain.nn.init.fixup",
    "lsuv": "jaxtrain.nn.init.lsuv",
    "whiten_first_layer": "jaxtrain.nn.init.patch_whitening",
    "within_layer": "jaxtrain.nn.init.within_layer",
    "LayerBuilder": "jaxtrain.nn.layers",
    "endpoint": "jaxtrain.nn.layers",
    "draw_outputs": "jaxtrain.nn.marginalization",
    "marginalize": "jaxtrain.nn.marginalization",
    "BatchNorm": "jaxtrain.nn.normalization",
    "local_response_norm": "jaxtrain.nn.normalization",
    "Subsampling": "jaxtrain.nn.pooling",
    "average_pool": "jaxtrain.nn.pooling",
    "global_pool": "jaxtrain.nn.pooling",
    "max_pool": "jaxtrain.nn.pooling",
    "pool": "jaxtrain.nn.pooling",
    "ShakeShake": "jaxtrain.nn.shake_shake",
    "shake": "jaxtrain.nn.shake_shake",
    "shake_given": "jaxtrain.nn.shake_shake",
    "StochasticDepth": "jaxtrain.nn.stochastic_depth",
    "stochastic_depth": "jaxtrain.nn.stochastic_depth",
    "stochastic_depth_given": "jaxtrain.nn.stochastic_depth",
    "linear_survival": "jaxtrain.nn.stochastic_depth",
}
_SUBMODULES = (
    "activations",
    "batch_statistics",
    "folding",
    "fractal_join",
    "fractional_pooling",
    "fractional_regions",
    "init",
    "layer_calls",
    "layers",
    "marginalization",
    "normalization",
    "pooling",
    "shake_shake",
)
__all__ = [*_MODULES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The type of this package: importing a submodule such as `dropout` does not hide the function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
