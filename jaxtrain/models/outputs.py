"""What a model gives in training when it has more heads than one."""

from typing import Any

import jax
from flax import struct


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
