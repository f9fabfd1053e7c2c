"""Statistics of batches, computed anew for parameters that no batch has seen: averaged ones, say."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

COLLECTION = "batch_stats"


def batch_statistics_of(
    model: nn.Module, params: Any, variables: Mapping[str, Any], images: jax.Array, rngs: Mapping[str, jax.Array]
) -> Any:
    """The statistics of one batch: what a model's running ones would be had they seen nothing else.

    A running statistic is `m * old + (1 - m) * batch`, with a momentum m that Linen's modules keep to themselves. It
    is linear in the old value, so that passes from 0 and from 1 tell both m and the batch's. Averaged over batches
    they are the population statistics of Ioffe & Szegedy 2015, algorithm 2 (with the variance of a batch as it is).

    Args:
      model: a Linen module whose collection `batch_stats` holds running means of that form.
      params: its parameters.
      variables: its other collections.
      images: f32[N, H, W, C], normalized.
      rngs: keys for what the model draws in training.

    Returns:
      A tree like `variables["batch_stats"]`.
    """

    def after(value: float) -> Any:
        old = jax.tree.map(lambda x: jnp.full_like(x, value), variables[COLLECTION])
        _, new = model.apply(
            {"params": params, **variables, COLLECTION: old},
            images,
            train=True,
            rngs=dict(rngs),
            mutable=list(variables),
        )
        return new[COLLECTION]

    return jax.tree.map(lambda zero, one: zero / (1 - (one - zero)), after(0.0), after(1.0))
