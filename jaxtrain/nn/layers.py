"""Construction of a model's layers with shared options: normalization, activation, initializer, dtypes."""

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
from jaxtrain.nn.pooling import output_size, symmetric_padding
from jaxtrain.registry import Default
from jaxtrain.xla_cpu.convolutions import conv_general_dilated

ENDPOINTS = "intermediates"  # flax's collection for sown values, which are not part of a model's variables
ENDPOINT_PREFIX = "endpoint_"  # a prefix, because flax forbids a sown value with the name of a submodule
Remat = bool | Literal["full", "dots", "convs"]
"""The intermediate values of a block that are kept for its gradient: all of them (False), or only the block's input
(True or "full"); "dots" also keeps the results of matrix multiplications, and "convs" those of convolutions too, so
that only cheap elementwise operations are recomputed."""

_SAVED = {"dots": {"dot_general"}, "convs": {"dot_general", "conv_general_dilated"}}
DType = Literal["float32", "bfloat16", "float16", "float64"]
"""The dtype of a model's computation or parameters."""


class LayerOptions(TypedDict, total=False):
    """Options that a model factory passes on to `LayerBuilder`.

    Attributes:
      activation: the activation function.
      kernel_init: the initializer of kernels.
      dtype: the dtype of the computation.
      param_dtype: the dtype of the parameters.
    """

    activation: Annotated[Activation, Default("relu")]
    kernel_init: Annotated[KernelInit, Default("he")]
    dtype: Annotated[DType, Default("float32")]
    param_dtype: Annotated[DType, Default("float32")]


class BlockOptions(LayerOptions, total=False):
    """Options of models that consist of normalized blocks.

    Attributes:
      activation: the activation function.
      kernel_init: the initializer of kernels.
      dtype: the dtype of the computation.
      param_dtype: the dtype of the parameters.
      norm: the normalization layer.
      remat: the activations that are recomputed in the backward pass instead of stored.
    """

    norm: Annotated[Norm, Default("batch")]
    remat: Annotated[Remat, Default(False)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerBuilder:
    """Layers with shared options, for use inside a Linen module's compact method.

    Padding is explicit. Its default keeps the size at stride 1: (k - 1) / 2 on every side, as in the papers and torch.
    jax's "SAME" is different at stride 2.

    Attributes:
      norm: the kind of normalization; with "none", convolutions have a bias.
      activation: the name of the activation, applied after normalizations, or after layers without normalization.
      kernel_init: the initializer of convolutions, and of dense layers other than the last.
      head_init: the initializer of the dense layer that computes the logits.
      bias: whether convolutions have a bias even with normalization.
      epsilon: the normalization's epsilon.
      dtype: the dtype of the computation; logits are float32 or wider.
      param_dtype: the dtype of the parameters.
      remat: rematerialization of blocks: values inside a block are recomputed for its gradient instead of kept. True or
        "full" recomputes all, "dots" all but matrix multiplications, "convs" all but these and convolutions.
      train: whether this is training: batch statistics, dropout.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     layers: jaxtrain.nn.LayerBuilder = jaxtrain.nn.LayerBuilder(norm="batch", activation="relu")
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         layers = self.layers.at(train=train)
      ...         x = layers.act(layers.normalize(layers.conv(images, 4, name="conv"), name="norm"))
      ...         return layers.logits(jaxtrain.nn.global_pool(x), classes=10)
      >>> images = jnp.ones((1, 8, 8, 3))
      >>> shapes = jax.eval_shape(lambda key: Net().init(key, images, train=False), jax.random.key(0))
      >>> {name: sorted(layer) for name, layer in shapes["params"].items()}
      {'conv': ['kernel'], 'logits': ['bias', 'kernel'], 'norm': ['bias', 'scale']}
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
        """Return a copy for training or evaluation."""
        return dataclasses.replace(self, train=train)

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """Return the block class `module`, rematerialized as `remat` says."""
        return rematerialize(module, self.remat)

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
        """Apply a convolution called `name`, with a `window` x `window` kernel, to `x[N, H, W, C]`.

        Raises:
          ValueError: the groups do not divide the channels, or the images are smaller than the window.
        """
        pads = (window - 1) // 2 if padding is None else padding
        if x.shape[-1] % groups or features % groups:
            raise ValueError(
                f"{name} has {groups} groups, which must divide its {x.shape[-1]} inputs and its {features} outputs"
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
            padding=symmetric_padding(pads),
            feature_group_count=groups,
            use_bias=(self.bias or self.norm == "none") if bias is None else bias,
            kernel_init=initializer(self.kernel_init),
            conv_general_dilated=conv_general_dilated,
            **self._dtypes(),
            name=name,
        )(x)

    def dense(self, x: jax.Array, features: int, *, name: str) -> jax.Array:
        """Apply a dense layer called `name` to the last axis of `x`."""
        return nn.Dense(features, kernel_init=initializer(self.kernel_init), **self._dtypes(), name=name)(x)

    def logits(self, x: jax.Array, classes: int) -> jax.Array:
        """Apply the last dense layer, called "logits", to `x[N, C]`; return f32[N, classes], or float64 if it is."""
        dense = nn.Dense(classes, kernel_init=initializer(self.head_init), **self._dtypes(), name="logits")
        y = dense(x)
        return y.astype(jnp.float32) if y.dtype.itemsize < 4 else y

    def normalize(self, x: jax.Array, *, name: str, scale_init: Any = nn.initializers.ones) -> jax.Array:
        """Apply the normalization, called `name`; "none" returns `x`."""
        settings: dict[str, Any] = {"epsilon": self.epsilon, "scale_init": scale_init, **self._dtypes(), "name": name}
        make: dict[str, Callable[[], nn.Module]] = {
            "batch": lambda: BatchNorm(train=self.train, **settings),
            "layer": lambda: nn.LayerNorm(reduction_axes=(-3, -2, -1), use_fast_variance=False, **settings),
            "instance": lambda: nn.InstanceNorm(use_fast_variance=False, **settings),
            "group": lambda: nn.GroupNorm(num_groups=_groups(x), use_fast_variance=False, **settings),
        }
        with jax.numpy_dtype_promotion("standard"):  # flax's layers promote to float32 inside
            return x if self.norm == "none" else make[self.norm]()(x)

    def act(self, x: jax.Array) -> jax.Array:
        """Apply the activation."""
        return activations.activation(self.activation)(x)

    def dropout(self, x: jax.Array, rate: float, kind: DropoutKind = "inverted") -> jax.Array:
        """Apply dropout, which draws from the random stream "dropout"."""
        return Dropout(self.train, rate, kind)(x) if rate else x

    def dropconnect(
        self, x: jax.Array, features: int, rate: float, at_test: AtTest = "mean", *, name: str
    ) -> jax.Array:
        """Apply a dense layer with DropConnect, called `name`, to `x[N, C]`, and then the activation."""
        options: dict[str, Any] = {"activation": self.activation, "at_test": at_test, **self._dtypes()}
        init = initializer(self.kernel_init)
        return DropConnect(self.train, features, rate, kernel_init=init, **options, name=name)(x)

    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}


def _groups(x: jax.Array) -> int:
    """Return the number of groups for group normalization: 32 (Wu & He 2018), or the channels if they are fewer."""
    groups = min(32, x.shape[-1])
    if x.shape[-1] % groups:
        raise ValueError(
            f"group normalization: {x.shape[-1]} channels cannot be divided into {groups} groups; choose another width"
        )
    return groups


def endpoint(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Publish `x` as a named feature map of the model and return it; this costs nothing unless it is requested.

    Example:
      >>> import flax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     def __call__(self, images):
      ...         return jaxtrain.nn.endpoint(self, "doubled", 2 * images).sum()
      >>> total, state = Net().apply({}, jnp.ones(3), mutable=["intermediates"])
      >>> float(total), state["intermediates"]["endpoint_doubled"].tolist()
      (6.0, [2.0, 2.0, 2.0])
    """
    module.sow(ENDPOINTS, ENDPOINT_PREFIX + name, x, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return x


def rematerialize(module: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """Return the block class `module` with its values recomputed for its gradient as `remat` says."""
    if remat is False:
        return module
    if remat is True or remat == "full":
        return nn.remat(module)
    saved = _SAVED[remat]

    def is_saveable(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in saved

    return nn.remat(module, policy=is_saveable)
