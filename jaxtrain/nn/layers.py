"""How a model makes its layers: what all of them have in common, said once."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypedDict

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.nn import activations
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.dropconnect import AtTest, DropConnect
from jaxtrain.nn.dropout import Dropout, DropoutKind
from jaxtrain.nn.init.initializers import KernelInit, initializer
from jaxtrain.nn.normalization import BatchNorm, Norm
from jaxtrain.nn.pooling import output_size, symmetric
from jaxtrain.registry import Default
from jaxtrain.xla_cpu.convolutions import convolution

ENDPOINTS = "intermediates"  # of flax: what is put there is no part of a model's variables
ENDPOINT_MARK = "endpoint_"  # a feature map may be called as the layer that makes it, which flax allows to one of them
Remat = bool | Literal["full", "dots", "convs"]
"""False keeps all that a gradient needs; True or "full" nothing but a block's input; "dots" also the results of matrix
products, "convs" of those and of convolutions, so that what is made again is elementwise and cheap."""

_KEPT = {"dots": {"dot_general"}, "convs": {"dot_general", "conv_general_dilated"}}
DType = Literal["float32", "bfloat16", "float16", "float64"]
"""Of what a model computes in, or keeps its parameters in."""


class LayerOptions(TypedDict, total=False):
    """Options that a factory of models takes and hands to `Layers`, which says what they mean."""

    activation: Annotated[Activation, Default("relu")]
    kernel_init: Annotated[KernelInit, Default("he")]
    dtype: Annotated[DType, Default("float32")]
    param_dtype: Annotated[DType, Default("float32")]


class BlockOptions(LayerOptions, total=False):
    """The same for models that are made of normalized blocks."""

    norm: Annotated[Norm, Default("batch")]
    remat: Annotated[Remat, Default(False)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """Applies layers inside a compact method, all with the same options.

    Padding is explicit, and by default what keeps the size at a stride of 1: (k - 1) / 2 on every side, as the papers
    and torch have it, and not jax's "SAME", which is another with a stride of 2.

    Attributes:
      norm: the normalization; with "none" convolutions have a bias.
      activation: after normalizations, or after layers where there are none.
      kernel_init: of the kernels of convolutions, and of dense layers that are not the last.
      head_init: of the kernel of the dense layer that gives the logits.
      bias: whether convolutions have one all the same.
      epsilon: of the normalization.
      dtype: of computation; logits are float32 all the same.
      param_dtype: of parameters.
      remat: computes each block once more for its gradient instead of keeping what is inside; all of it (true, "full"),
        all but matrix products ("dots"), or all but those and convolutions ("convs").
      train: whether this is training: statistics of the batch, dropout.
    """

    norm: Norm = "batch"
    activation: Activation = "relu"
    kernel_init: KernelInit = "he"
    head_init: KernelInit = "lecun"
    bias: bool = False
    epsilon: float = 1e-5
    dtype: DType = "float32"
    param_dtype: DType = "float32"
    remat: Remat = False
    train: bool = False

    def at(self, *, train: bool) -> Self:
        """The same layers, in training or not."""
        return dataclasses.replace(self, train=train)

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """`module`, a block of the model, rematerialized where that is wanted."""
        return rematerialized(module, self.remat)

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
            use_bias=(self.bias or self.norm == "none") if bias is None else bias,
            kernel_init=initializer(self.kernel_init),
            conv_general_dilated=convolution,
            **self._dtypes(),
            name=name,
        )(x)

    def dense(self, x: jax.Array, features: int, *, name: str) -> jax.Array:
        """A dense layer on the last axis, called `name`."""
        return nn.Dense(features, kernel_init=initializer(self.kernel_init), **self._dtypes(), name=name)(x)

    def logits(self, x: jax.Array, classes: int) -> jax.Array:
        """The last dense layer, called "logits": `x[N, C]` -> f32[N, classes], float64 where it computes in that."""
        dense = nn.Dense(classes, kernel_init=initializer(self.head_init), **self._dtypes(), name="logits")
        y = dense(x)
        return y.astype(jnp.float32) if y.dtype.itemsize < 4 else y

    def normalize(self, x: jax.Array, *, name: str, scale_init: Any = nn.initializers.ones) -> jax.Array:
        """The normalization, called `name`."""
        settings: dict[str, Any] = {"epsilon": self.epsilon, "scale_init": scale_init, **self._dtypes(), "name": name}
        make: dict[str, Callable[[], nn.Module]] = {
            "batch": lambda: BatchNorm(train=self.train, **settings),
            "layer": lambda: nn.LayerNorm(reduction_axes=(-3, -2, -1), use_fast_variance=False, **settings),
            "instance": lambda: nn.InstanceNorm(use_fast_variance=False, **settings),
            "group": lambda: nn.GroupNorm(num_groups=_groups(x), use_fast_variance=False, **settings),
        }
        with jax.numpy_dtype_promotion("standard"):  # flax's promote to float32 inside
            return x if self.norm == "none" else make[self.norm]()(x)

    def act(self, x: jax.Array) -> jax.Array:
        """The activation."""
        return activations.activation(self.activation)(x)

    def dropout(self, x: jax.Array, rate: float, kind: DropoutKind = "inverted") -> jax.Array:
        """Dropout of a kind, from the stream "dropout"."""
        return Dropout(self.train, rate, kind)(x) if rate else x

    def dropconnect(
        self, x: jax.Array, features: int, rate: float, at_test: AtTest = "mean", *, name: str
    ) -> jax.Array:
        """A dense layer with DropConnect on `x[N, C]`, called `name`, and the activation after it."""
        options: dict[str, Any] = {"activation": self.activation, "at_test": at_test, **self._dtypes()}
        init = initializer(self.kernel_init)
        return DropConnect(self.train, features, rate, kernel_init=init, **options, name=name)(x)

    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


def _groups(x: jax.Array) -> int:
    """32 (Wu & He 2018), or the channels where they are fewer."""
    groups = min(32, x.shape[-1])
    if x.shape[-1] % groups:
        raise ValueError(f"{x.shape[-1]} channels do not divide into {groups} groups; choose a width that does")
    return groups


def endpoint(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Names `x`, which costs nothing where nobody asks for it; returns it."""
    module.sow(ENDPOINTS, ENDPOINT_MARK + name, x, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return x


def rematerialized(module: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """`module`, a block of a model, made again for its gradient as `remat` says."""
    if remat is False:
        return module
    if remat is True or remat == "full":
        return nn.remat(module)
    kept = _KEPT[remat]

    def keeps(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in kept

    return nn.remat(module, policy=keeps)
