"""Dynamic loss scaling for gradients in float16 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).

The loss is multiplied by a scale, so that small gradients are not rounded to 0. If the gradients overflow, the step is
skipped and the scale halved. After a number of steps without overflow the scale is doubled. It stays a power of 2 if it
starts as one; division by it is then exact.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import LossScale, PositiveInt

T = TypeVar("T")
NO_OBJECTIVE = (
    "this optimizer evaluates the objective again inside a step, where precision=float16 has no scale for its "
    "gradients; use precision=bfloat16 or float32 with this optimizer"
)
"""Reason why an optimizer gets no objective while the loss is scaled."""
LEAST, MOST = 1.0, 2.0**24
"""Limits of the scale. A loss that overflows at `LEAST` overflows without any scale."""


class LossScaleState(NamedTuple):
    """State of `with_loss_scale`.

    Attributes:
      scale: f32[], the factor of the next loss.
      good: int32[], the number of steps with finite gradients since the last change of the scale.
      skipped: int32[], the number of skipped steps.
      inner: the state of the inner optimizer.
    """

    scale: jax.Array
    good: jax.Array
    skipped: jax.Array
    inner: Any


def with_loss_scale(
    inner: optax.GradientTransformation, start: LossScale = 2.0**15, interval: PositiveInt = 2000
) -> optax.GradientTransformationExtraArgs:
    """Build an optimizer that takes gradients of a loss times `LossScaleState.scale` and skips non-finite ones.

    A skipped step gives updates of 0 and leaves the state of `inner` unchanged, including its step counts.

    Args:
      inner: an optimizer; it gets the gradients of the unscaled loss.
      start: the first scale.
      interval: the number of steps with finite gradients after which the scale is doubled.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> LossScaleState:
        return LossScaleState(jnp.float32(start), jnp.int32(0), jnp.int32(0), inner.init(params))

    def update(
        updates: optax.Updates, state: LossScaleState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LossScaleState]:
        grads = jax.tree.map(lambda g: g / state.scale.astype(g.dtype), updates)
        finite = jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]).all()
        if "grad" in extra:
            extra["grad"] = grads
        found, inner_state = inner.update(grads, state.inner, params, **extra)
        found = jax.tree.map(lambda u: jnp.where(finite, u, jnp.zeros((), u.dtype)), found)
        return found, _update_scale(state, finite, select_tree(finite, inner_state, state.inner), interval)

    return optax.GradientTransformationExtraArgs(init, update)


def _update_scale(state: LossScaleState, finite: jax.Array, inner: Any, interval: int) -> LossScaleState:
    good = jnp.where(finite, state.good + 1, 0)
    grow = good >= interval
    grown_scale = jnp.where(grow, jnp.minimum(state.scale * 2, jnp.float32(MOST)), state.scale)
    scale = jnp.where(finite, grown_scale, jnp.maximum(state.scale / 2, jnp.float32(LEAST)))
    skipped = state.skipped + jnp.where(finite, 0, 1).astype(jnp.int32)
    return LossScaleState(scale, jnp.where(grow, 0, good).astype(jnp.int32), skipped, inner)


def loss_scale_state(opt_state: Any) -> LossScaleState | None:
    """Return the state of `with_loss_scale` inside an optimizer's state, or None."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, LossScaleState))
    return next((node for node in nodes if isinstance(node, LossScaleState)), None)


def select_tree(chosen: jax.Array, tree: Any, other: Any) -> Any:
    """Return the leaves of `tree` if `chosen` (bool[]) is True, else those of `other`."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), tree, other)


def has_loss_scale(opt_state: Any) -> bool:
    """Return whether the optimizer scales the loss."""
    return loss_scale_state(opt_state) is not None


def scale_loss(value: jax.Array, opt_state: Any) -> jax.Array:
    """Multiply a loss f[] by the scale, if the optimizer has one."""
    found = loss_scale_state(opt_state)
    return value if found is None else value * found.scale.astype(value.dtype)


def current_scale(opt_state: Any) -> jax.Array:
    """Return the factor of the next loss, f32[]; NaN if the optimizer has no scale."""
    found = loss_scale_state(opt_state)
    return jnp.float32(jnp.nan) if found is None else found.scale


def count_updates(opt_state: Any, step: jax.Array) -> jax.Array:
    """Return int32[], the number of the `step` steps that changed the parameters; schedules count these."""
    found = loss_scale_state(opt_state)
    return step if found is None else step - found.skipped


def skip_overflow(before: T, after: T, pairs: dict[str, Any]) -> tuple[T, dict[str, Any]]:
    """Restore the parameters and variables of `before` if the optimizer skipped the step; adapt the metrics.

    If the loss of a skipped step is not finite, the metrics leave it out, since a smaller scale may remedy it. If the
    scale is already at its minimum, the loss is reported as NaN, whatever it was.

    Args:
      before: the `TrainState` before the step.
      after: the `TrainState` after the step.
      pairs: the metrics of the step, `(sum, count)` by name.
    """
    left: Any = after
    start: Any = before
    old, new = loss_scale_state(start.opt_state), loss_scale_state(left.opt_state)
    if old is None or new is None:
        return after, pairs
    skipped = new.skipped > old.skipped
    hopeless = skipped & (old.scale <= LEAST)
    out = skipped & ~jnp.isfinite(pairs["loss"][0])
    kept = {
        name: select_tree(out, (jnp.zeros_like(total), jnp.int32(0)), (total, n)) for name, (total, n) in pairs.items()
    }
    total, count = pairs["loss"]
    kept["loss"] = select_tree(hopeless, (jnp.full_like(total, jnp.nan), count), kept["loss"])
    params = select_tree(skipped, start.params, left.params)
    return left.replace(params=params, variables=select_tree(skipped, start.variables, left.variables)), kept
