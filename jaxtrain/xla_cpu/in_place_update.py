"""Parameters that are updated where they lie, without a copy of them in each step."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp


def finish_gradients_first(grads: Any) -> Any:
    """`grads`, bit for bit, of which none is used before all are made.

    XLA's CPU compiler writes new parameters over the old ones only where everything that reads the old ones is known to
    come before. The gradient of a layer's input reads its kernel, and the gradient of that kernel does not need it: so
    all kernels but the first layer's are copied in each step, which took a tenth of the step of an MLP. Where an update
    needs all gradients, it comes after all that lead to them.

    A barrier of XLA's would say so, but is gone before copies are decided on. What is added instead is -0, which
    changes no float, and depends on whether anything is larger than infinity. (Denormal numbers become zero, for which
    XLA's arithmetic takes them on a CPU in any case.)
    """
    above = [g.reshape(-1)[0] > jnp.inf for g in jax.tree.leaves(grads) if g.size]
    if len(above) < 2:
        return grads
    nothing = jnp.where(functools.reduce(operator.or_, above), 1.0, -0.0)
    return jax.tree.map(lambda g: g + nothing.astype(g.dtype), grads)
