"""Layer-wise decay of the learning rate: the nearer to the input, the slower a layer learns."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.config.annotations import ByPath


def layer_decay_rules(layers: Sequence[str], decay: float) -> ByPath:
    """Multipliers by path: 1 for the last of `layers`, `decay` for the one before it, `decay ** 2` and so on.

    Clark et al. 2020 (arXiv:2003.10555), section 3.1; Bao et al. 2022 (arXiv:2106.08254).

    Args:
      layers: names of top-level modules from input to output, as `call_order` finds them.
      decay: a layer's learning rate as a fraction of the next layer's.

    Returns:
      Rules `(regex, value)`. A parameter outside these layers has the multiplier 1.
    """
    last = len(layers) - 1
    return (*((f"^{re.escape(name)}(/|$)", decay ** (last - i)) for i, name in enumerate(layers)), (".*", 1.0))


def call_order(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Names of the top-level modules that own parameters, in the order in which they are first called.

    Found by abstract evaluation on an image of `image_shape` (height, width, channels); nothing is computed.
    """
    called: dict[str, None] = {}

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.module.path:
            called.setdefault(context.module.path[0])
        return call(*args, **kwargs)

    def init(key: jax.Array, images: jax.Array) -> Any:
        with nn.intercept_methods(note):
            return model.init(key, images, train=False)

    variables = jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return tuple(name for name in called if name in variables.get("params", {}))
