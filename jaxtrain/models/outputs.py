"""The outputs of a model: logits, auxiliary heads and named feature maps; tests of a model that only trace shapes."""

from collections.abc import Mapping
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from jaxtrain.nn.layers import ENDPOINT_PREFIX, ENDPOINTS
from jaxtrain.random import MODEL_STREAMS


@struct.dataclass
class Outputs:
    """The logits of a model and of its auxiliary heads, which exist in training only.

    Attributes:
      logits: logits f32[N, K] of the main head.
      auxiliary: logits f32[N, K] of each auxiliary head.
      auxiliary_weight: weight of the loss of each auxiliary head; the main loss has weight 1.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...] = ()
    auxiliary_weight: float = struct.field(pytree_node=False, default=0.3)


def main_logits(outputs: Any) -> jax.Array:
    """Return the main logits f32[N, K] of a model's outputs, with or without auxiliary heads."""
    logits: jax.Array = outputs.logits if isinstance(outputs, Outputs) else outputs
    return logits


def features(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array, *, train: bool = False, **options: Any
) -> dict[str, jax.Array]:
    """Return all named feature maps (endpoints) of a model in the order of the network, and the "logits".

    Args:
      model: a model of this package.
      variables: parameters and batch statistics of the model.
      images: input f32[N, H, W, C].
      train: whether to call the model in training mode.
      options: other options of `model.apply`, such as `rngs`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.models.outputs import features
      >>> model, images = jaxtrain.models.lenet5(num_classes=10), jnp.zeros((1, 32, 32, 1))
      >>> def init_and_run(images):
      ...     return features(model, model.init(jax.random.key(0), images, train=False), images)
      >>> {name: x.shape for name, x in jax.eval_shape(init_and_run, images).items() if name.startswith("pool")}
      {'pool1': (1, 14, 14, 6), 'pool2': (1, 5, 5, 16)}
    """
    outputs, state = model.apply(variables, images, train=train, mutable=[ENDPOINTS], **options)
    endpoints = {
        k.removeprefix(ENDPOINT_PREFIX): v for k, v in state.get(ENDPOINTS, {}).items() if k.startswith(ENDPOINT_PREFIX)
    }
    return {**endpoints, "logits": main_logits(outputs)}


def abstract_images(size: int, shape: tuple[int, int, int]) -> Any:
    """Return the shape and dtype of `size` images of `shape` (height, width, channels)."""
    return jax.ShapeDtypeStruct((size, *shape), jnp.float32)


def is_stochastic(model: nn.Module, images: Any) -> bool:
    """Return whether the model uses random numbers in training. This only traces shapes; `images` may be abstract."""
    try:
        _trace_outputs(model, images, ())
    except flax.errors.InvalidRngError:
        return True
    return False


def has_auxiliary_heads(model: nn.Module, images: Any) -> bool:
    """Return whether the model returns `Outputs` in training. This only traces shapes; `images` may be abstract."""
    return isinstance(_trace_outputs(model, images, MODEL_STREAMS), Outputs)


def _trace_outputs(model: nn.Module, images: Any, streams: tuple[str, ...]) -> Any:
    """Return the shapes of the model's outputs in training, where only the random streams `streams` are available."""
    key = jax.random.key(0)

    def run(images: jax.Array) -> Any:
        variables = model.init(key, images, train=False)
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(streams)}
        return model.apply(variables, images, train=True, mutable=True, rngs=rngs)[0]

    return jax.eval_shape(run, images)
