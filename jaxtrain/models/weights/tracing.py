"""Tracing of a model's initialization, which shows the first convolutions and the dense layers on feature maps."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jax.extend import core

from jaxtrain.errors import WeightsError

Image = tuple[int, int, int]
"""Height, width and channels of one image or feature map."""


@dataclasses.dataclass(frozen=True)
class ModelTrace:
    """The variables of a model for images of one size.

    Attributes:
      image: height, width and channels of the images.
      shapes: shape and dtype of each variable by path, such as `params/conv1/kernel`.
      first: paths of the kernels of convolutions that take the images as input.
      flattened: shapes of flattened feature maps, by the path of the kernel of the dense layer after each.
    """

    image: Image
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    first: frozenset[str]
    flattened: Mapping[str, Image]


def trace_model(model: nn.Module, image: Image) -> ModelTrace:
    """Trace `model.init` for one image, without computing anything.

    Raises:
      WeightsError: if the model cannot take such images.
    """
    first: set[str] = set()
    rows: dict[str, int] = {}
    before = [""]  # kind of the layer called last

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.Conv | nn.Dense):
            kernel = "/".join(("params", *module.path, "kernel"))
            inputs = next(iter((*args, *kwargs.values())))
            if isinstance(module, nn.Conv) and inputs.shape[1:] == image:
                first.add(kernel)
            if isinstance(module, nn.Dense) and inputs.ndim == 2 and before[0] != "dense":
                rows[kernel] = inputs.shape[1]
            before[0] = "dense" if isinstance(module, nn.Dense) else "conv"
        return call(*args, **kwargs)

    def init(images: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return model.init(jax.random.key(0), images, train=False)

    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    try:
        traced, variables = jax.make_jaxpr(init, return_shape=True)(images)
    except ValueError as error:
        raise WeightsError(f"the model cannot take images of {'x'.join(map(str, image))}: {error}") from error
    maps = dict(_flattenings(traced.jaxpr))
    leaves = traverse_util.flatten_dict(variables, sep="/")
    return ModelTrace(
        image=image,
        shapes={path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()},
        first=frozenset(first),
        flattened={kernel: maps[count] for kernel, count in rows.items() if count in maps},
    )


def _flattenings(jaxpr: core.Jaxpr) -> Iterator[tuple[int, Image]]:
    """Yield the size and shape of every feature map `[1, h, w, c]` that is reshaped to `[1, h * w * c]`."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "reshape":
            before, after = _shape(eqn.invars[0]), _shape(eqn.outvars[0])
            if len(before) == 4 and len(after) == 2 and after[0] == 1:
                yield after[1], (before[1], before[2], before[3])
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if isinstance(inner, core.Jaxpr):
                yield from _flattenings(inner)


def _shape(variable: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = variable.aval.shape
    return shape
