"""How a model makes its layers: what all of them have in common, said once."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn import activations
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.initializers import KernelInit, initializer
from jaxtrain.nn.normalization import BatchNorm, Norm
from jaxtrain.nn.sizes import output_size, symmetric

DType = Literal["float32", "bfloat16", "float16", "float64"]
"""Of what a model computes in, or keeps its parameters in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Applies layers inside a compact method, all with the same options.

    Padding is explicit, and by default what keeps the size at a stride of 1: (k - 1) / 2 on every side, as the papers
    and torch have it, and not jax's "SAME", which is another with a stride of 2.

    Attributes:
      train: whether this is training: statistics of the batch, dropout.
      norm_kind: what `norm` is.
      activation: what `act` is.
      kernel_init: of the kernels of convolutions.
      head_init: of the kernels of dense layers.
      bias: whether convolutions have one.
      epsilon: of `norm`.
      dtype: of computation and results.
      param_dtype: of parameters.
    """

    train: bool
    norm_kind: Norm = "batch"
    activation: Activation = "relu"
    kernel_init: KernelInit = "he"
    head_init: KernelInit = "lecun"
    bias: bool = False
    epsilon: float = 1e-5
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    def conv(
        self,
        x: jax.Array,
        features: int,
        window: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool | None = None,
        name: str,
    ) -> jax.Array:
        """A convolution of `x[N, H, W, C]` over `window` x `window` places, called `name`."""
        pads = (window - 1) // 2 if padding is None else padding
        if x.shape[-1] % groups or features % groups:
            raise ValueError(
                f"{name} has {groups} groups, which do not divide both its {x.shape[-1]} inputs and its {features} "
                "outputs"
            )
        for size in x.shape[1:3]:
            try:
                output_size(size, window, stride=stride, padding=(pads, pads))
            except ValueError as error:
                raise ValueError(f"the images are too small: at {name}, {error}") from None
        return nn.Conv(
            features,
            (window, window),
            strides=stride,
            padding=symmetric(pads),
            feature_group_count=groups,
            use_bias=self.bias if bias is None else bias,
            kernel_init=initializer(self.kernel_init),
            **self._dtypes(),
            name=name,
        )(x)

    def dense(self, x: jax.Array, features: int, *, name: str) -> jax.Array:
        """A dense layer on the last axis, called `name`."""
        return nn.Dense(features, kernel_init=initializer(self.head_init), **self._dtypes(), name=name)(x)

    def norm(self, x: jax.Array, *, name: str, scale_init: Any = nn.initializers.ones) -> jax.Array:
        """The normalization, called `name`."""
        settings: dict[str, Any] = {"epsilon": self.epsilon, "scale_init": scale_init, **self._dtypes(), "name": name}
        make: dict[str, Callable[[], nn.Module]] = {
            "batch": lambda: BatchNorm(train=self.train, **settings),
            "layer": lambda: nn.LayerNorm(reduction_axes=(-3, -2, -1), use_fast_variance=False, **settings),
            "instance": lambda: nn.InstanceNorm(use_fast_variance=False, **settings),
            "group": lambda: nn.GroupNorm(num_groups=_groups(x), use_fast_variance=False, **settings),
        }
        return x if self.norm_kind == "none" else make[self.norm_kind]()(x)

    def act(self, x: jax.Array) -> jax.Array:
        """The activation."""
        return activations.activation(self.activation)(x)

    def dropout(self, x: jax.Array, rate: float) -> jax.Array:
        """Inverted dropout in training, from the stream "dropout"."""
        return nn.Dropout(rate, deterministic=not self.train)(x) if rate else x

    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


def _groups(x: jax.Array) -> int:
    """32 (Wu & He 2018), or the channels where they are fewer."""
    groups = min(32, x.shape[-1])
    if x.shape[-1] % groups:
        raise ValueError(f"{x.shape[-1]} channels do not divide into {groups} groups; choose a width that does")
    return groups
