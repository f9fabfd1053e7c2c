"""What becomes of random numbers on their way through a deep net: one net an initialization, all of equal layers.

The experiment of Stanford's CS231n: 6 layers of 4096 units, a batch of 16 from N(0, 1). Too small an initialization
lets the values of deep layers vanish, too large a one saturates them.
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

KERNELS: dict[str, Callable[..., initializers.Initializer]] = {
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
"""Initializations that know the shape of a kernel alone. The first two take a number, and so does "orthogonal"."""
ON_A_BATCH: dict[str, Callable[..., Any]] = {
    "lsuv": lsuv,
    "within_layer": within_layer,
    "between_layers": between_layers,
}
"""Initializations that look at the batch."""
_TAKE_A_NUMBER = ("normal", "constant", "orthogonal")


class DeepNet(nn.Module):
    """Dense layers `fc1 ... fcN` of equal width, with an activation after each, the last too.

    Attributes:
      layers: how many.
      width: units of each.
      activation: after each.
      kernel_init: of kernels.
    """

    layers: int
    width: int
    activation: Activation
    kernel_init: initializers.Initializer = initializers.xavier()

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """f[N, C] -> f[N, width]; training changes nothing."""
        x = images
        for i in range(1, self.layers + 1):
            x = nn.Dense(self.width, kernel_init=self.kernel_init, name=f"fc{i}")(x)
            x = activations.activation(self.activation)(x)
        return x


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One net's.

    Attributes:
      init: as it was asked for.
      layers: statistics of each, in order.
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
) -> list[Outcome]:
    """The statistics of each layer, by initialization; all nets get the same batch.

    Args:
      inits: names in `KERNELS` or `ON_A_BATCH`; a number in brackets after "normal", "constant" and "orthogonal" is the
        deviation, the value or the gain: "normal(0.05)".
      activation: after each layer.
      layers: of each net.
      width: of the input and each layer.
      batch_size: examples.
      seed: of the batch and the kernels.

    Raises:
      ConfigError: for an initialization that is not known or cannot be.
    """
    asked = [(text, *_parsed(text)) for text in inits]
    data_key, key = jax.random.split(jax.random.key(seed))
    images = jax.random.normal(data_key, (batch_size, width))
    outcomes = []
    for i, (text, name, numbers) in enumerate(asked):
        net_key = jax.random.fold_in(key, i)
        net = DeepNet(layers, width, activation)
        try:
            if name in ON_A_BATCH:
                variables = ON_A_BATCH[name](net, net_key, images)
            else:
                net = net.clone(kernel_init=KERNELS[name](*numbers))
                variables = jax.jit(lambda k, net=net: net.init(k, images, train=False))(net_key)
        except ValueError as error:
            raise ConfigError(str(error), text) from error
        found = activation_statistics(net, variables, images, activation=activation, head_is_linear=False)
        outcomes.append(Outcome(text, found))
    return outcomes


def _parsed(text: str) -> tuple[str, tuple[float, ...]]:
    """`normal(0.05)` as a name and its numbers."""
    found = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
    name, inside = found.groups() if found else (text, None)
    known = [*KERNELS, *ON_A_BATCH]
    if name not in known:
        raise ConfigError(f"unknown initialization {text!r}{did_you_mean(name, known)}")
    if not inside:
        return name, ()
    if name not in _TAKE_A_NUMBER:
        raise ConfigError(f"{name} takes no number; those that do are {', '.join(_TAKE_A_NUMBER)}", text)
    try:
        return name, (float(inside),)
    except ValueError:
        raise ConfigError(f"{inside!r} is no number; write {name}(0.05), say", text) from None
