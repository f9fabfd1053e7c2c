"""What the layers of a model give on a batch: mean, deviation, saturated values, dead units, a histogram."""

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
from jaxtrain.nn.layer_calls import WHOLE, is_layer, is_normalization

_COLLECTION = "activation_statistics"


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """Of one layer, after its activation.

    Attributes:
      layer: its path: "block/conv1".
      mean: of all values.
      std: standard deviation of all values.
      saturated: fraction of the values at which the activation's slope is next to nothing: zeros of a ReLU, the flat
        ends of a tanh.
      dead: fraction of the units (channels) that are saturated for every example, at every place.
      low, high: the least and the greatest value.
      counts: of values in equal bins from the least to the greatest.
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
    """Statistics of each convolution and dense layer of any Linen module, in the order in which it calls them.

    A layer's values are its outputs, those of the normalization instead where one gets just these, through the
    activation. The model is called as in evaluation.

    Args:
      model: a Linen module, `(images, *, train)`.
      variables: all that it has.
      images: f[N, ...], a batch.
      activation: what the model has after its layers. The model does not tell, since activations are no modules; with
        "identity" nothing is saturated.
      head_is_linear: whether the last layer that is called is a classifier, which no activation follows.
      least_slope: a value is saturated where the activation's derivative is below it: |tanh| above 0.995 for 0.01.
      bins: of the histograms.

    Raises:
      ConfigError: for "prelu", whose slopes are parameters; for a model without layers.
    """
    if activation == "prelu":
        raise ConfigError("prelu learns its slopes, which statistics do not know; take relu or leaky_relu for them")
    act = activations.activation(activation)
    places: dict[str, tuple[str, ...]] = {}

    def run(variables: Any, images: jax.Array) -> Any:
        with nn.intercept_methods(_recorder(places, lambda y: _described(y, act, least_slope, bins))):
            _, found = model.apply(variables, images, train=False, mutable=[_COLLECTION])
        return found

    found = jax.device_get(jax.jit(run)(dict(variables), jnp.asarray(images)))
    if not places:
        raise ConfigError(f"{type(model).__name__} calls no nn.Conv or nn.Dense, so there is nothing to measure")
    flat = traverse_util.flatten_dict(found[_COLLECTION])
    head = [*places][-1] if head_is_linear else None
    statistics = []
    for layer, path in places.items():
        prefix = (*path, "linear" if layer == head else "active")
        statistics.append(_statistics(layer, {key[-1]: value for key, value in flat.items() if key[:-1] == prefix}))
    return statistics


def _recorder(places: dict[str, tuple[str, ...]], describe: Callable[[jax.Array], Any]) -> Any:
    """Keeps the description of each layer's values where the model can hold it, and in `places` its path."""
    made: dict[int, tuple[str, Any]] = {}  # the output is kept, so that its id stays its own

    def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module: Any = context.module
        result = call(*args, **kwargs)
        layer = "/".join(module.path) or WHOLE
        if is_normalization(context) and id(args[0]) in made:
            layer, _ = made[id(args[0])]
        elif not is_layer(context) or layer in places:
            return result
        made[id(result)] = (layer, result)
        places[layer] = module.path
        for name, value in describe(result).items():
            module.put_variable(_COLLECTION, name, value)
        return result

    return intercept


def _described(y: jax.Array, act: Callable[[jax.Array], jax.Array], least_slope: float, bins: int) -> dict[str, Any]:
    wide = y.astype(np.promote_types(y.dtype, np.float32))
    values, slopes = jax.jvp(act, (wide,), (jnp.ones_like(wide),))
    return {
        "active": _numbers(values, jnp.abs(slopes) < least_slope, bins),
        "linear": _numbers(wide, jnp.zeros(wide.shape, bool), bins),
    }


def _numbers(values: jax.Array, saturated: jax.Array, bins: int) -> Any:
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


def _statistics(layer: str, numbers: Mapping[str, Any]) -> LayerStatistics:
    scalars = {name: float(value) for name, value in numbers.items() if name != "counts"}
    counts = tuple(int(n) for n in np.asarray(numbers["counts"]))
    return LayerStatistics(layer=layer, counts=counts, **scalars)
