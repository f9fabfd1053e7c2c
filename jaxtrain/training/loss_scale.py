"""What a training step does where the loss is scaled: gradients of the scaled loss, and no trace of a skipped step."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.optim.loss_scaling import LEAST, loss_scale_state, where
from jaxtrain.training.metrics import Pair
from jaxtrain.training.state import TrainState


def scaled(value: jax.Array, opt_state: Any) -> jax.Array:
    """A loss f[], times the scale where the optimizer has one."""
    found = loss_scale_state(opt_state)
    return value if found is None else value * found.scale.astype(value.dtype)


def current_scale(opt_state: Any) -> jax.Array:
    """f32[], what the next loss is multiplied by; NaN where the optimizer has no scale."""
    found = loss_scale_state(opt_state)
    return jnp.float32(jnp.nan) if found is None else found.scale


def updates_made(opt_state: Any, step: jax.Array) -> jax.Array:
    """int32[], how many of `step` steps moved the parameters: schedules count those."""
    found = loss_scale_state(opt_state)
    return step if found is None else step - found.skipped


def without_skipped(
    before: TrainState, after: TrainState, pairs: dict[str, Pair]
) -> tuple[TrainState, dict[str, Pair]]:
    """`after`, with the parameters and variables of `before` where the step was skipped, and the metrics to go with it.

    A loss that is not finite is left out of the metrics of a skipped step, since a smaller scale may cure it. Where the
    scale is as small as it gets, nothing will: the loss is given as NaN then, whatever it was.
    """
    old, new = loss_scale_state(before.opt_state), loss_scale_state(after.opt_state)
    if old is None or new is None:
        return after, pairs
    skipped = new.skipped > old.skipped
    hopeless = skipped & (old.scale <= LEAST)
    out = skipped & ~jnp.isfinite(pairs["loss"][0])
    kept = {name: where(out, (jnp.zeros_like(total), jnp.int32(0)), (total, n)) for name, (total, n) in pairs.items()}
    total, count = pairs["loss"]
    kept["loss"] = where(hopeless, (jnp.full_like(total, jnp.nan), count), kept["loss"])
    left: TrainState = after.replace(
        params=where(skipped, before.params, after.params), variables=where(skipped, before.variables, after.variables)
    )
    return left, kept


def one_gradient_alone(*_: Any) -> Any:
    """Stands for the objective where the loss is scaled; raises `ValueError`."""
    raise ValueError(
        "it evaluates the objective again inside a step, where precision=float16 has no scale for its gradients; use "
        "precision=bfloat16 or float32 with this optimizer"
    )
