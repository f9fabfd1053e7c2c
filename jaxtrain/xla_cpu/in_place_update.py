"""In-place parameter updates: no copy of the kernels in each step."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp


def finish_gradients_first(grads: Any) -> Any:
    """Return `grads` bitwise unchanged, but with each one depending on all: none is used before all are computed.

    XLA's CPU compiler writes new parameters over the old ones only if all readers of the old ones are known to run
    before. The gradient of a layer's input reads its kernel, but the gradient of that kernel does not depend on it. All
    kernels except the first layer's are therefore copied in each step, which took a tenth of an MLP's step time. If an
    update depends on all gradients, it runs after everything that leads to them.

    XLA's `optimization_barrier` would express this, but the compiler removes it before it decides on copies. Instead
    this function adds -0, which changes no float, and makes it depend on whether any number is larger than infinity.
    (Denormal numbers become zero; XLA's CPU arithmetic treats them as zero in any case.)
    """
    exceeds = [g.reshape(-1)[0] > jnp.inf for g in jax.tree.leaves(grads) if g.size]
    if len(exceeds) < 2:
        return grads
    zero = jnp.where(functools.reduce(operator.or_, exceeds), 1.0, -0.0)
    return jax.tree.map(lambda g: g + zero.astype(g.dtype), grads)
