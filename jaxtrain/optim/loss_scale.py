"""Dynamic loss scaling for gradients in float16 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).

The loss is multiplied by a scale, so that small gradients are not rounded to 0. Where they overflow instead, the step
is skipped and the scale halved; after some steps without that it is doubled. The scale is a power of 2 as long as it
begins as one, so that to divide by it rounds nothing.
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
"""Why an optimizer gets no objective while the loss is scaled."""
LEAST, MOST = 1.0, 2.0**24
"""What a scale stays between. One that overflows at `LEAST` overflows without any scale."""


class LossScaleState(NamedTuple):
    """State of `with_loss_scale`.

    Attributes:
      scale: f32[], what the next loss is multiplied by.
      good: int32[], steps with finite gradients since the scale was last changed.
      skipped: int32[], steps that were skipped.
      inner: state of the optimizer inside.
    """

    scale: jax.Array
    good: jax.Array
    skipped: jax.Array
    inner: Any


def with_loss_scale(
    inner: optax.GradientTransformation, start: LossScale = 2.0**15, interval: PositiveInt = 2000
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that is given gradients of a loss times `LossScaleState.scale`, and skips those that are not finite.

    A skipped step gives updates of 0 and leaves the state of `inner` as it was, its counts of steps included.

    Args:
      inner: an optimizer, which is given the gradients of the loss itself.
      start: the first scale.
      interval: steps with finite gradients after which the scale is doubled.
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
        found, inside = inner.update(grads, state.inner, params, **extra)
        found = jax.tree.map(lambda u: jnp.where(finite, u, jnp.zeros((), u.dtype)), found)
        return found, _next(state, finite, where(finite, inside, state.inner), interval)

    return optax.GradientTransformationExtraArgs(init, update)


def _next(state: LossScaleState, finite: jax.Array, inner: Any, interval: int) -> LossScaleState:
    good = jnp.where(finite, state.good + 1, 0)
    grow = good >= interval
    risen = jnp.where(grow, jnp.minimum(state.scale * 2, jnp.float32(MOST)), state.scale)
    scale = jnp.where(finite, risen, jnp.maximum(state.scale / 2, jnp.float32(LEAST)))
    skipped = state.skipped + jnp.where(finite, 0, 1).astype(jnp.int32)
    return LossScaleState(scale, jnp.where(grow, 0, good).astype(jnp.int32), skipped, inner)


def loss_scale_state(opt_state: Any) -> LossScaleState | None:
    """The state of `with_loss_scale` inside an optimizer's state; None where there is none."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, LossScaleState))
    return next((node for node in nodes if isinstance(node, LossScaleState)), None)


def where(chosen: jax.Array, tree: Any, other: Any) -> Any:
    """The leaves of `tree` where `chosen` (bool[]), else those of `other`."""
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), tree, other)


def has_loss_scale(opt_state: Any) -> bool:
    """Return whether the optimizer scales the loss."""
    return loss_scale_state(opt_state) is not None


def scale_loss(value: jax.Array, opt_state: Any) -> jax.Array:
    """Multiply a loss f[] by the scale, where the optimizer has one."""
    found = loss_scale_state(opt_state)
    return value if found is None else value * found.scale.astype(value.dtype)


def current_scale(opt_state: Any) -> jax.Array:
    """Return f32[], what the next loss is multiplied by; NaN where the optimizer has no scale."""
    found = loss_scale_state(opt_state)
    return jnp.float32(jnp.nan) if found is None else found.scale


def count_updates(opt_state: Any, step: jax.Array) -> jax.Array:
    """Return int32[], how many of `step` steps moved the parameters: schedules count those."""
    found = loss_scale_state(opt_state)
    return step if found is None else step - found.skipped


def skip_overflow(before: T, after: T, pairs: dict[str, Any]) -> tuple[T, dict[str, Any]]:
    """Put the parameters and variables of `before` back where the optimizer skipped the step; adapt the metrics.

    A loss that is not finite is left out of the metrics of a skipped step, since a smaller scale may cure it. Where the
    scale is as small as it gets, nothing will: the loss is given as NaN then, whatever it was.

    Args:
      before: the `TrainState` before the step.
      after: the one after it.
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
    kept = {name: where(out, (jnp.zeros_like(total), jnp.int32(0)), (total, n)) for name, (total, n) in pairs.items()}
    total, count = pairs["loss"]
    kept["loss"] = where(hopeless, (jnp.full_like(total, jnp.nan), count), kept["loss"])
    params = where(skipped, start.params, left.params)
    return left.replace(params=params, variables=where(skipped, start.variables, left.variables)), kept
