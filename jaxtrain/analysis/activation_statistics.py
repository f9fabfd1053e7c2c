"""Activation statistics of a model's layers on a batch: mean, standard deviation, saturation, dead units, histogram."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.errors import ConfigError
from jaxtrain.nn import activations
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.layer_calls import ROOT_NAME, is_layer, is_normalization

_COLLECTION = "activation_statistics"


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """The statistics of one layer's values, after its activation.

    Attributes:
      layer: path of the layer, such as "block/conv1".
      mean: mean of all values.
      std: standard deviation of all values.
      saturated: fraction of the values at which the activation's slope is almost zero: the zeros of a ReLU, the flat
        ends of a tanh.
      dead: fraction of the units (channels) that are saturated for every example, at every position.
      low, high: least and greatest value.
      counts: number of values in each of several equal bins from the least value to the greatest.
    """

    layer: str
    mean: float
    std: float
    saturated: float
    dead: float
    low: float
    high: float
    counts: tuple[int, ...]


def activation_statistics(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Any,
    *,
    activation: Activation = "identity",
    head_is_linear: bool = True,
    least_slope: float = 0.01,
    bins: int = 50,
) -> list[LayerStatistics]:
    """Return the statistics of each convolution and dense layer of a Linen module, in the order of the calls.

    A layer's values are its outputs after the activation. Where a normalization follows the layer directly, its
    outputs take the place of the layer's. The model is called with `train=False`.

    Args:
      model: a Linen module, called as `(images, *, train)`.
      variables: variables of the model, all collections.
      images: f[N, ...], a batch.
      activation: the activation after the model's layers. It must be given, because activations are functions, not
        modules, and cannot be read off the model. With "identity" nothing is saturated.
      head_is_linear: whether the layer that is called last is a classifier, without an activation after it.
      least_slope: threshold of saturation: a value is saturated where the absolute slope of the activation is below
        it. 0.01 means |tanh| above 0.995.
      bins: number of bins of the histograms.

    Raises:
      ConfigError: the activation is "prelu", whose slopes are parameters, or the model has no layers.
    """
    if activation == "prelu":
        raise ConfigError("prelu learns its slopes, which are not known here; use relu or leaky_relu instead")
    act = activations.activation(activation)
    paths: dict[str, tuple[str, ...]] = {}

    def run(variables: Any, images: jax.Array) -> Any:
        with nn.intercept_methods(_make_interceptor(paths, lambda y: _describe(y, act, least_slope, bins))):
            _, state = model.apply(variables, images, train=False, mutable=[_COLLECTION])
        return state

    state = jax.device_get(jax.jit(run)(dict(variables), jnp.asarray(images)))
    if not paths:
        raise ConfigError(f"{type(model).__name__} calls no nn.Conv or nn.Dense; statistics need at least one of them")
    flat = traverse_util.flatten_dict(state[_COLLECTION])
    head = [*paths][-1] if head_is_linear else None
    statistics = []
    for layer, path in paths.items():
        prefix = (*path, "linear" if layer == head else "active")
        statistics.append(
            _layer_statistics(layer, {key[-1]: value for key, value in flat.items() if key[:-1] == prefix})
        )
    return statistics


def _make_interceptor(paths: dict[str, tuple[str, ...]], describe: Callable[[jax.Array], Any]) -> Any:
    """Return an interceptor that stores each layer's statistics in a collection, and its path in `paths`."""
    outputs: dict[int, tuple[str, Any]] = {}  # by id; keeping the output alive keeps its id unique

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module: Any = context.module
        result = call(*args, **kwargs)
        layer = "/".join(module.path) or ROOT_NAME
        if is_normalization(context) and id(args[0]) in outputs:
            layer, _ = outputs[id(args[0])]
        elif not is_layer(context) or layer in paths:
            return result
        outputs[id(result)] = (layer, result)
        paths[layer] = module.path
        for name, value in describe(result).items():
            module.put_variable(_COLLECTION, name, value)
        return result

    return intercept


def _describe(y: jax.Array, act: Callable[[jax.Array], jax.Array], least_slope: float, bins: int) -> dict[str, Any]:
    pre_activations = y.astype(np.promote_types(y.dtype, np.float32))
    values, slopes = jax.jvp(act, (pre_activations,), (jnp.ones_like(pre_activations),))
    return {
        "active": _summarize(values, jnp.abs(slopes) < least_slope, bins),
        "linear": _summarize(pre_activations, jnp.zeros(pre_activations.shape, bool), bins),
    }


def _summarize(values: jax.Array, saturated: jax.Array, bins: int) -> Any:
    counts, edges = jnp.histogram(values, bins)
    dead = saturated.all(axis=tuple(range(values.ndim - 1)))
    return {
        "mean": values.mean(),
        "std": values.std(),
        "saturated": saturated.mean(),
        "dead": dead.mean(),
        "low": edges[0],
        "high": edges[-1],
        "counts": counts,
    }


def _layer_statistics(layer: str, numbers: Mapping[str, Any]) -> LayerStatistics:
    scalars = {name: float(value) for name, value in numbers.items() if name != "counts"}
    counts = tuple(int(n) for n in np.asarray(numbers["counts"]))
    return LayerStatistics(layer=layer, counts=counts, **scalars)
