"""Named feature maps of a model, for transfer, visualization and tests."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.models.outputs import logits_of

_COLLECTION = "intermediates"  # of flax: what is put there is no part of a model's variables
_MARK = "endpoint_"  # a feature map may be called as the layer that makes it, which flax allows to one of them


def endpoint(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    """Names `x`, which costs nothing where nobody asks for it; returns it."""
    module.sow(_COLLECTION, _MARK + name, x, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return x


def features(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array, *, train: bool = False, **options: Any
) -> dict[str, jax.Array]:
    """Every named feature map of `images` f32[N, H, W, C], in the order of the network, and the "logits".

    Args:
      model: of this package.
      variables: its parameters and batch statistics.
      images: the input.
      train: as in a call of the model.
      options: others of `apply`, `rngs` among them.
    """
    outputs, seen = model.apply(variables, images, train=train, mutable=[_COLLECTION], **options)
    marked = {k.removeprefix(_MARK): v for k, v in seen.get(_COLLECTION, {}).items() if k.startswith(_MARK)}
    return {**marked, "logits": logits_of(outputs)}
