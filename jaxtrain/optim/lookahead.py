"""Lookahead, around an optimizer (`lookahead`) and behind one, on a schedule (`slow_weights`)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, InnerOptimizer, Interval, NonNegativeFloat, PositiveInt, Steps
from jaxtrain.optim.trees import is_masked, widest

Share = Annotated[float, Interval(above=0, most=1)]


class LookaheadState(NamedTuple):
    """State of `lookahead`: of the optimizer inside, the slow weights, and int32[] updates made."""

    inner: Any
    slow: Any
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The slow weights."""
        return jax.tree.map(lambda s, p: p if is_masked(s) else s, self.slow, params, is_leaf=is_masked)


def lookahead(
    inner: InnerOptimizer, *, sync_period: PositiveInt = 6, slow_step: Share = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Lookahead (Zhang et al. 2019, algorithm 1): every k-th step the weights return to a point on the way.

    After each `sync_period` steps of `inner`: slow += slow_step * (fast - slow), fast = slow. Evaluation uses the slow
    weights.

    Args:
      inner: the optimizer of the fast weights, whose state runs on.
      sync_period: k of the paper.
      slow_step: alpha of the paper.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> LookaheadState:
        return LookaheadState(inner.init(params), jax.tree.map(jnp.array, params), jnp.int32(0))

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LookaheadState]:
        if params is None:
            raise ValueError("lookahead needs the parameters: call update(grads, state, params)")
        updates, inside = inner.update(updates, state.inner, params, **extra)
        due = (state.step + 1) % sync_period == 0
        ahead = jax.tree.map(lambda s, p, u: s + slow_step * (p + u - s), state.slow, params, updates)
        slow = jax.tree.map(lambda new, old: jnp.where(due, new, old), ahead, state.slow)
        updates = jax.tree.map(lambda s, p, u: jnp.where(due, s - p, u), slow, params, updates)
        return updates, LookaheadState(inside, slow, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


class SlowWeightsState(NamedTuple):
    """State of `slow_weights`: the average, in float32 at least, and int32[] updates made."""

    slow: Any
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The average, in the dtypes of `params`."""
        return jax.tree.map(lambda s, p: p if is_masked(s) else s.astype(p.dtype), self.slow, params, is_leaf=is_masked)


def slow_weights(
    *, total: Steps, every: PositiveInt = 5, decay: Fraction = 0.95**5, power: NonNegativeFloat = 3.0
) -> optax.GradientTransformationExtraArgs:
    """After each `every` updates: `slow += (1 - d) * (x - slow)`, `x = slow`, with `d = decay * (step / total)^power`.

    Early in the run d is next to 0, so that nothing happens; at its end the parameters move 1 - `decay` of the way they
    would. It stands behind the optimizer and its rules by path, and leaves their state as it is, unlike `lookahead`
    around an optimizer, whose share is fixed. Evaluation uses the average.

    Args:
      total: updates in the run; a config takes its length.
      every: updates from one to the next.
      decay: the share of the old average at the end.
      power: how late it becomes so: 0 for the same share all the time.
    """
    if isinstance(total, int) and total < 1:
        raise ValueError(f"slow_weights needs the length of the run, and that is total={total}; give 1 step at least")

    def init(params: optax.Params) -> SlowWeightsState:
        def first(p: Any) -> Any:
            inexact = jnp.issubdtype(jnp.result_type(p), jnp.inexact)
            return jnp.array(p, widest(p)) if inexact else optax.MaskedNode()  # a copy: both can be donated

        return SlowWeightsState(jax.tree.map(first, params), jnp.int32(0))

    def update(
        updates: optax.Updates, state: SlowWeightsState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, SlowWeightsState]:
        del extra
        if params is None:
            raise ValueError("slow_weights needs the parameters: call update(updates, state, params)")
        step = state.step + 1
        due = step % every == 0
        done = jnp.minimum(step, total).astype(jnp.result_type(float)) / total
        share = 1 - decay * done**power

        def averaged(slow: Any, p: jax.Array, u: jax.Array) -> Any:
            if is_masked(slow):
                return slow
            x = optax.apply_updates(p, u).astype(slow.dtype)
            return jnp.where(due, slow + share.astype(slow.dtype) * (x - slow), slow)

        def moved(slow: Any, p: jax.Array, u: jax.Array) -> jax.Array:
            return u if is_masked(slow) else jnp.where(due, (slow - p.astype(slow.dtype)).astype(u.dtype), u)

        slow = jax.tree.map(averaged, state.slow, params, updates, is_leaf=is_masked)
        updates = jax.tree.map(moved, slow, params, updates, is_leaf=is_masked)
        return updates, SlowWeightsState(slow, step)

    return optax.GradientTransformationExtraArgs(init, update)
