"""Layer-wise decay of the learning rate: layers nearer to the input have a lower learning rate."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import ByPath


def layer_decay_rules(layers: Sequence[str], decay: float) -> ByPath:
    """Return multipliers by path: 1 for the last of `layers`, `decay` for the one before, then `decay ** 2` and so on.

    Clark et al. 2020 (arXiv:2003.10555), section 3.1; Bao et al. 2022 (arXiv:2106.08254).

    Args:
      layers: the names of top-level modules from input to output, as `call_order` returns them.
      decay: the ratio of a layer's learning rate to that of the next layer.

    Returns:
      Rules `(regex, value)`. A parameter outside these layers has the multiplier 1.

    Example:
      >>> from jaxtrain.optim.layer_decay import layer_decay_rules
      >>> for rule in layer_decay_rules(["stem", "body", "head"], 0.5):
      ...     print(rule)
      ('^stem(/|$)', 0.25)
      ('^body(/|$)', 0.5)
      ('^head(/|$)', 1.0)
      ('.*', 1.0)
    """
    last = len(layers) - 1
    return (*((f"^{re.escape(name)}(/|$)", decay ** (last - i)) for i, name in enumerate(layers)), (".*", 1.0))


def call_order(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the names of the top-level modules that own parameters, in the order of their first calls.

    They come from abstract evaluation on an image of `image_shape` (height, width, channels); nothing is computed.
    """
    called: dict[str, None] = {}

    def record_call(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.module.path:
            called.setdefault(context.module.path[0])
        return call(*args, **kwargs)

    def init(key: jax.Array, images: jax.Array) -> Any:
        with nn.intercept_methods(record_call):
            return model.init(key, images, train=False)

    variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return tuple(name for name in called if name in variables.get("params", {}))
