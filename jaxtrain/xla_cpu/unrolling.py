"""XLA's CPU compiler gives convolutions in a loop gradients without its fast path: loops are unrolled, or avoided.

LeNet-5 falls to 0.28 of its speed in a loop over steps, ResNet-20 below 0.04. On one CPU device our own kernels
(`xla_cpu/convolutions`) are called in a loop as well as outside, but not for every convolution. This file can go when
the gradients of convolutions in `jax.lax.scan` are as fast as outside of it on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp

MOST_UNROLLED = 16
"""Parts beyond which a program that holds each of them takes too long to compile."""


def has_convolution(jaxpr: Any) -> bool:
    """Return whether a convolution is anywhere in `jaxpr`, closed or not."""
    return any(
        eqn.primitive.name == "conv_general_dilated" or any(map(has_convolution, _subjaxprs(eqn)))
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns
    )


def _subjaxprs(eqn: Any) -> list[Any]:
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [v for v in values if hasattr(v, "eqns") or hasattr(getattr(v, "jaxpr", None), "eqns")]


def unrolls(parts: int) -> bool:
    """Return whether a loop over `parts` micro-batches is unrolled."""
    return jax.default_backend() == "cpu" and parts <= MOST_UNROLLED


def index_after(total: Any, parts: Any, index: int) -> Any:
    """Return the `index`-th of `parts`, arrays `[parts, ...]`, available only once `total` is computed.

    XLA may work on parts that do not depend on each other at once, with all of them in memory, and its CPU compiler
    drops `optimization_barrier`. So the index depends on the sum of each array in `total`: another part would be taken
    if more arrays were NaN than there are. The sum is not known before the gradients are added, so that XLA cannot
    keep every micro-batch's gradient alive.
    """
    leaves = jax.tree.leaves(total)
    lost = sum(jnp.isnan(leaf.sum()).astype(jnp.int32) for leaf in leaves)
    place = jnp.where(lost > len(leaves), 0, index)
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), parts)
