"""Activation statistics of a deep network on random inputs, for several initializations.

This is the experiment of Stanford's CS231n: 6 layers of 4096 units and a batch of 16 examples from N(0, 1). With a
small initialization the values of deep layers vanish; with a large one they saturate.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.analysis.activation_statistics import LayerStatistics, activation_statistics
from jaxtrain.errors import ConfigError, did_you_mean
from jaxtrain.nn import activations
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.init import initializers
from jaxtrain.nn.init.between_layer import between_layers
from jaxtrain.nn.init.lsuv import lsuv
from jaxtrain.nn.init.within_layer import within_layer

KERNEL_INITS: dict[str, Callable[..., initializers.Initializer]] = {
    "normal": initializers.normal,
    "constant": initializers.constant,
    "xavier": initializers.xavier,
    "glorot": initializers.glorot,
    "glorot_uniform": initializers.glorot_uniform,
    "lecun": nn.initializers.lecun_normal,
    "he": initializers.he,
    "he_fan_out": initializers.he_fan_out,
    "orthogonal": initializers.orthogonal,
    "random_walk": initializers.random_walk,
}
"""Initializers that depend on the shape of a kernel only. "normal", "constant" and "orthogonal" take a number."""
DATA_DEPENDENT_INITS: dict[str, Callable[..., Any]] = {
    "lsuv": lsuv,
    "within_layer": within_layer,
    "between_layers": between_layers,
}
"""Data-dependent initializations, which use the batch."""
_WITH_NUMBER = ("normal", "constant", "orthogonal")


class DeepNet(nn.Module):
    """A network of dense layers `fc1 ... fcN` of equal width, with an activation after each layer, including the last.

    Attributes:
      layers: number of layers.
      width: units of each layer.
      activation: activation after each layer.
      kernel_init: initializer of the kernels.
    """

    layers: int
    width: int
    activation: Activation
    kernel_init: initializers.Initializer = initializers.xavier()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Apply the layers: f[N, C] -> f[N, width]; `train` has no effect."""
        x = images
        for i in range(1, self.layers + 1):
            x = nn.Dense(self.width, kernel_init=self.kernel_init, name=f"fc{i}")(x)
            x = activations.activation(self.activation)(x)
        return x


@dataclasses.dataclass(frozen=True)
class InitResult:
    """The statistics of one network.

    Attributes:
      init: name of the initialization, as in the arguments of `activation_experiment`.
      layers: statistics of each layer, in order.
    """

    init: str
    layers: list[LayerStatistics]


def activation_experiment(
    inits: Iterable[str],
    *,
    activation: Activation = "tanh",
    layers: int = 6,
    width: int = 4096,
    batch_size: int = 16,
    seed: int = 0,
) -> list[InitResult]:
    """Return the statistics of each layer, by initialization; all networks get the same batch.

    Args:
      inits: names in `KERNEL_INITS` or `DATA_DEPENDENT_INITS`. "normal", "constant" and "orthogonal" take a number in
        parentheses, the standard deviation, the value or the gain: "normal(0.05)".
      activation: activation after each layer.
      layers: number of layers of each network.
      width: width of the input and of each layer.
      batch_size: number of examples.
      seed: seed of the batch and the kernels.

    Raises:
      ConfigError: an initialization is unknown or not possible with these settings.
    """
    requests = [(text, *_parse_init(text)) for text in inits]
    data_key, key = jax.random.split(jax.random.key(seed))
    images = jax.random.normal(data_key, (batch_size, width))
    results = []
    for i, (text, name, numbers) in enumerate(requests):
        net_key = jax.random.fold_in(key, i)
        net = DeepNet(layers, width, activation)
        try:
            if name in DATA_DEPENDENT_INITS:
                variables = DATA_DEPENDENT_INITS[name](net, net_key, images)
            else:
                net = net.clone(kernel_init=KERNEL_INITS[name](*numbers))
                variables = jax.jit(lambda k, net=net: net.init(k, images, train=False))(net_key)
        except ValueError as error:
            raise ConfigError(str(error), text) from error
        layer_statistics = activation_statistics(net, variables, images, activation=activation, head_is_linear=False)
        results.append(InitResult(text, layer_statistics))
    return results


def _parse_init(text: str) -> tuple[str, tuple[float, ...]]:
    """Split `normal(0.05)` into its name and its numbers."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
    name, argument = match.groups() if match else (text, None)
    known = [*KERNEL_INITS, *DATA_DEPENDENT_INITS]
    if name not in known:
        raise ConfigError(f"unknown initialization {text!r}{did_you_mean(name, known)}")
    if not argument:
        return name, ()
    if name not in _WITH_NUMBER:
        raise ConfigError(f"{name} takes no number; only these do: {', '.join(_WITH_NUMBER)}", text)
    try:
        return name, (float(argument),)
    except ValueError:
        raise ConfigError(f"{argument!r} is not a number; write, for example, {name}(0.05)", text) from None
