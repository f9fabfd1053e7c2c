"""What the names and shapes of a model's variables do not say, found by tracing its initialization once."""

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
"""Height, width and channels of one image, or of a feature map."""


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """A model's variables for images of one size.

    Attributes:
      image: that size.
      shapes: shape and dtype of each variable by its path, such as `params/conv1/kernel`.
      first: paths of the kernels of convolutions that see the images themselves.
      flattened: for the kernel of each dense layer that sees a flattened feature map, that map's size.
    """

    image: Image
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    first: frozenset[str]
    flattened: Mapping[str, Image]


def anatomy(model: nn.Module, image: Image) -> Anatomy:
    """Traces `model.init` for one image; nothing is computed.

    Raises:
      WeightsError: for images that the model cannot take.
    """
    first: set[str] = set()
    rows: dict[str, int] = {}
    before = [""]  # which kind of layer was called last

    def look(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
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
        with nn.intercept_methods(look):
            return model.init(jax.random.key(0), images, train=False)

    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    try:
        traced, variables = jax.make_jaxpr(init, return_shape=True)(images)
    except ValueError as error:
        raise WeightsError(f"the model takes no images of {'x'.join(map(str, image))}: {error}") from error
    maps = dict(_flattenings(traced.jaxpr))
    leaves = traverse_util.flatten_dict(variables, sep="/")
    return Anatomy(
        image=image,
        shapes={path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves.items()},
        first=frozenset(first),
        flattened={kernel: maps[count] for kernel, count in rows.items() if count in maps},
    )


def _flattenings(jaxpr: core.Jaxpr) -> Iterator[tuple[int, Image]]:
    """Size and shape of every feature map `[1, h, w, c]` that becomes a row `[1, h * w * c]`."""
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
