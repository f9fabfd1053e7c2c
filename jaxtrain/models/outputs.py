"""What a model returns: logits, auxiliary heads, named feature maps; and whether it draws, found by shapes alone."""

from collections.abc import Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from jaxtrain.nn.layers import ENDPOINT_MARK, ENDPOINTS
from jaxtrain.random import MODEL_STREAMS


@struct.dataclass
class Outputs:
    """Logits, and those of auxiliary heads that are there in training only.

    Attributes:
      logits: f32[N, K].
      auxiliary: f32[N, K] each.
      auxiliary_weight: of the loss of each auxiliary head, beside 1 for the main one's.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...] = ()
    auxiliary_weight: float = struct.field(pytree_node=False, default=0.3)


def logits_of(outputs: Any) -> jax.Array:
    """f32[N, K], the logits of what a model gives, with auxiliary heads or without."""
    found: jax.Array = outputs.logits if isinstance(outputs, Outputs) else outputs
    return found


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
    outputs, seen = model.apply(variables, images, train=train, mutable=[ENDPOINTS], **options)
    marked = {
        k.removeprefix(ENDPOINT_MARK): v for k, v in seen.get(ENDPOINTS, {}).items() if k.startswith(ENDPOINT_MARK)
    }
    return {**marked, "logits": logits_of(outputs)}


def abstract_images(size: int, shape: tuple[int, int, int]) -> Any:
    """Return the shape and dtype of `size` images of `shape` (height, width, channels)."""
    return jax.ShapeDtypeStruct((size, *shape), jnp.float32)


def draws_at_random(model: nn.Module, images: Any) -> bool:
    """Return whether the model asks for a random stream in training; `images` may be shapes, nothing is computed."""
    try:
        _outputs(model, images, ())
    except flax.errors.InvalidRngError:
        return True
    return False


def has_auxiliary_heads(model: nn.Module, images: Any) -> bool:
    """Return whether the model returns `Outputs` in training; `images` may be shapes, nothing is computed."""
    return isinstance(_outputs(model, images, MODEL_STREAMS), Outputs)


def _outputs(model: nn.Module, images: Any, streams: tuple[str, ...]) -> Any:
    """The shapes of what the model returns in training, given these random streams and no others."""
    key = jax.random.key(0)

    def run(images: jax.Array) -> Any:
        variables = model.init(key, images, train=False)
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(streams)}
        return model.apply(variables, images, train=True, mutable=True, rngs=rngs)[0]

    return jax.eval_shape(run, images)
