"""Lookahead, as a wrapper of an optimizer (`lookahead`) and behind an optimizer with a schedule (`slow_weights`)."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, InnerOptimizer, Interval, NonNegativeFloat, PositiveInt, Steps
from jaxtrain.optim.trees import is_masked, widest

PositiveFraction = Annotated[float, Interval(above=0, most=1)]


class LookaheadState(NamedTuple):
    """State of `lookahead`: the state of the inner optimizer, the slow weights, and int32[] updates made."""

    inner: Any
    slow: Any
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """Return the slow weights."""
        return jax.tree.map(lambda s, p: p if is_masked(s) else s, self.slow, params, is_leaf=is_masked)


def lookahead(
    inner: InnerOptimizer, *, sync_period: PositiveInt = 6, slow_step: PositiveFraction = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Build Lookahead (Zhang et al. 2019, algorithm 1, arXiv:1907.08610) around another optimizer.

    After each `sync_period` steps of `inner` on the fast weights:

        slow = slow + slow_step * (fast - slow)
        fast = slow

    Evaluation uses the slow weights.

    Args:
      inner: the optimizer of the fast weights; its state is not reset.
      sync_period: k of the paper, the number of fast steps for each slow step.
      slow_step: alpha of the paper, the step size of the slow weights.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.lookahead(jaxtrain.optim.sgd(0.1), sync_period=2)
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.array([1.0, 3.0]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [0.9 0.7]
      [0.905 0.745]
      [0.814 0.522]
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> LookaheadState:
        return LookaheadState(inner.init(params), jax.tree.map(jnp.array, params), jnp.int32(0))

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LookaheadState]:
        if params is None:
            raise ValueError("lookahead needs the parameters: call update(grads, state, params)")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        due = (state.step + 1) % sync_period == 0
        ahead = jax.tree.map(lambda s, p, u: s + slow_step * (p + u - s), state.slow, params, updates)
        slow = jax.tree.map(lambda new, old: jnp.where(due, new, old), ahead, state.slow)
        updates = jax.tree.map(lambda s, p, u: jnp.where(due, s - p, u), slow, params, updates)
        return updates, LookaheadState(inner_state, slow, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


class SlowWeightsState(NamedTuple):
    """State of `slow_weights`: the average, in float32 at least, and int32[] updates made."""

    slow: Any
    step: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """Return the average, in the dtypes of `params`."""
        return jax.tree.map(lambda s, p: p if is_masked(s) else s.astype(p.dtype), self.slow, params, is_leaf=is_masked)


def slow_weights(
    *, total: Steps, every: PositiveInt = 5, decay: Fraction = 0.95**5, power: NonNegativeFloat = 3.0
) -> optax.GradientTransformationExtraArgs:
    """Build a transformation that moves the parameters back to their running average every few updates.

    After each `every` updates:

        d = decay * (step / total)^power
        slow = slow + (1 - d) * (x - slow)
        x = slow

    Early in the run d is close to 0 and the parameters hardly change; at its end they move 1 - `decay` of the way
    (Jordan 2024, arXiv:2404.00498, section 3.4). Put it behind the optimizer and its rules by path; it does not change
    their state. `lookahead` differs: it wraps an optimizer, and its share is constant. Evaluation uses the average.

    Args:
      total: the number of updates in the run; a config takes the length of the run.
      every: the number of updates between two averages.
      decay: the share of the old average at the end of the run.
      power: the exponent of the growth of d; 0 gives a constant d, larger values a later growth.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = optax.chain(optax.sgd(1.0), jaxtrain.optim.slow_weights(total=4, every=2, decay=0.5))
      >>> x = jnp.float32(0)
      >>> state = tx.init(x)
      >>> for _ in range(4):
      ...     updates, state = tx.update(jnp.float32(-1), state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(x)
      1.0
      1.875
      2.875
      2.875
    """
    if isinstance(total, int) and total < 1:
        raise ValueError(f"slow_weights: total={total} is no valid length of a run; it must be at least 1 step")

    def init(params: optax.Params) -> SlowWeightsState:
        def first(p: Any) -> Any:
            inexact = jnp.issubdtype(jnp.result_type(p), jnp.inexact)
            return jnp.array(p, widest(p)) if inexact else optax.MaskedNode()  # a copy, so that both can be donated

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

        def average_leaf(slow: Any, p: jax.Array, u: jax.Array) -> Any:
            if is_masked(slow):
                return slow
            x = optax.apply_updates(p, u).astype(slow.dtype)
            return jnp.where(due, slow + share.astype(slow.dtype) * (x - slow), slow)

        def move_to_average(slow: Any, p: jax.Array, u: jax.Array) -> jax.Array:
            return u if is_masked(slow) else jnp.where(due, (slow - p.astype(slow.dtype)).astype(u.dtype), u)

        slow = jax.tree.map(average_leaf, state.slow, params, updates, is_leaf=is_masked)
        updates = jax.tree.map(move_to_average, slow, params, updates, is_leaf=is_masked)
        return updates, SlowWeightsState(slow, step)

    return optax.GradientTransformationExtraArgs(init, update)
