"""Unrolling of loops, because XLA's CPU compiler has no fast path for gradients of convolutions inside a loop.

In a loop over steps, LeNet-5 runs at 0.28 of its speed and ResNet-20 below 0.04. On one CPU device, the native kernels
(`xla_cpu/convolutions`) are used inside loops too, but not for every convolution. This file can be removed when
gradients of convolutions are as fast in `jax.lax.scan` as outside of it on a CPU.
"""

from typing import Any

import jax
import jax.numpy as jnp

MOST_UNROLLED = 16
"""The greatest number of parts that are unrolled; a program with more takes too long to compile."""


def has_convolution(jaxpr: Any) -> bool:
    """Return whether `jaxpr`, closed or not, contains a convolution at any depth."""
    return any(
        eqn.primitive.name == "conv_general_dilated" or any(map(has_convolution, _subjaxprs(eqn)))
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns
    )


def _subjaxprs(eqn: Any) -> list[Any]:
    values = [v for value in eqn.params.values() for v in (value if isinstance(value, tuple | list) else (value,))]
    return [v for v in values if hasattr(v, "eqns") or hasattr(getattr(v, "jaxpr", None), "eqns")]


def should_unroll(parts: int) -> bool:
    """Return whether a loop over `parts` micro-batches is unrolled."""
    return jax.default_backend() == "cpu" and parts <= MOST_UNROLLED


def index_after(total: Any, parts: Any, index: int) -> Any:
    """Return the `index`-th of `parts`, arrays `[parts, ...]`, available only after `total` is computed.

    XLA may compute independent parts at the same time, with all of them in memory, and its CPU compiler drops
    `optimization_barrier`. The index therefore depends on the sum of each array in `total`: it would be another one if
    more arrays were NaN than exist. The sum is not known before the gradients are added, so XLA cannot keep every
    micro-batch's gradient alive.
    """
    leaves = jax.tree.leaves(total)
    nan_count = sum(jnp.isnan(leaf.sum()).astype(jnp.int32) for leaf in leaves)
    dependent_index = jnp.where(nan_count > len(leaves), 0, index)
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, dependent_index, keepdims=False), parts)
