"""Averages of the parameters over the steps of a run, which evaluation uses in place of the parameters themselves.

Each is an optax transformation that stands after an optimizer: it hands the updates on unchanged and keeps an average
of `params + updates` in its state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, PositiveInt, Steps
from jaxtrain.optim.trees import widest


class AverageState(NamedTuple):
    """State of `polyak`, `ema` and `swa`.

    Attributes:
      average: like the parameters, in float32 at least.
      weight: f32[], what the weights of the average add up to; 0 where there is none yet.
      seen: int32[], updates so far.
    """

    average: Any
    weight: jax.Array
    seen: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The average, in the dtypes of `params`; `params` themselves while nothing has been averaged."""

        def choose(average: Any, p: Any) -> Any:
            if _is_masked(average):
                return p
            weight = self.weight.astype(average.dtype)
            mean = average / jnp.where(weight > 0, weight, jnp.ones_like(weight))
            return jnp.where(weight > 0, mean.astype(p.dtype), p)

        return jax.tree.map(choose, self.average, params, is_leaf=_is_masked)


def polyak(decay: Fraction = 0.995) -> optax.GradientTransformationExtraArgs:
    """`average = decay * average + (1 - decay) * x` after each update, from the initial parameters on.

    Args:
      decay: weight of the old average. It forgets in about 1 / (1 - decay) steps, and holds
        `decay ** steps` of the initial parameters.
    """
    return _averaging(lambda _: (decay, 1 - decay), from_start=True)


def ema(
    decay: Fraction = 0.999,
    *,
    debias: bool = True,
    warmup: bool = False,
    start: Steps = 0,
    every: PositiveInt = 1,
) -> optax.GradientTransformationExtraArgs:
    """Exponential moving average of the parameters.

    Args:
      decay: weight of the old average.
      debias: start from 0 and divide by what the weights add up to, as Adam does; else from the first parameters seen.
      warmup: weigh the old average by min(decay, (1 + n) / (10 + n)) in the n-th update of the average.
      start: updates of the parameters to let pass first.
      every: take the parameters in after every so many updates.
    """

    def weights(count: jax.Array) -> tuple[jax.Array, jax.Array]:
        n = ((count - start) // every).astype(jnp.float32)
        old = jnp.minimum(decay, (1 + n) / (10 + n)) if warmup else jnp.float32(decay)
        if not debias:
            old = jnp.where(count - start < every, 0.0, old)
        due = (count >= start) & ((count - start) % every == 0)
        return jnp.where(due, old, 1.0), jnp.where(due, 1 - old, 0.0)

    return _averaging(weights)


def swa(start: Steps, *, every: Steps = 1) -> optax.GradientTransformationExtraArgs:
    """Stochastic weight averaging: the plain mean of the parameters after `start`, `start + every`, ... updates.

    Izmailov et al. 2018, algorithm 1. Before `start` evaluation uses the parameters as they are.

    Args:
      start: updates before the first parameters are taken in.
      every: updates between two of them, a cycle of the learning rate, say.
    """
    if isinstance(every, int) and every < 1:
        raise ValueError("every must be one step at least")

    def weights(count: jax.Array) -> tuple[jax.Array, jax.Array]:
        done = count + 1  # updates made, this one included
        due = (done >= start) & ((done - start) % every == 0)
        return jnp.float32(1), due.astype(jnp.float32)

    return _averaging(weights)


def evaluation_params(opt_state: Any, params: Any) -> Any:
    """The parameters to evaluate: what the one state in `opt_state` that averages says, else `params`.

    Raises `ValueError` where there are several: which of them is meant cannot be known.
    """
    found = _averaging_states(opt_state)
    if len(found) > 1:
        kinds = ", ".join(type(state).__name__ for state in found)
        raise ValueError(f"the optimizer keeps {len(found)} averages of the parameters ({kinds}); evaluation takes one")
    return found[0].evaluation_params(params) if found else params


def has_average(opt_state: Any) -> bool:
    """Whether `evaluation_params` gives anything but the parameters."""
    return bool(_averaging_states(opt_state))


def _averaging_states(opt_state: Any) -> list[Any]:
    def averages(node: Any) -> bool:
        return hasattr(node, "evaluation_params")

    return [node for node in jax.tree.leaves(opt_state, is_leaf=averages) if averages(node)]


def _averaging(
    weights: Callable[[jax.Array], tuple[Any, Any]], *, from_start: bool = False
) -> optax.GradientTransformationExtraArgs:
    """`average = old * average + new * x` with `(old, new) = weights(updates before this one)`."""

    def init(params: optax.Params) -> AverageState:
        def first(p: Any) -> Any:
            wide = jnp.array(p, widest(p))
            return wide if from_start else jnp.zeros_like(wide)

        return AverageState(jax.tree.map(first, params), jnp.float32(1 if from_start else 0), jnp.int32(0))

    def update(
        updates: optax.Updates, state: AverageState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, AverageState]:
        del extra
        if params is None:
            raise ValueError("an average of the parameters needs them: call update(grads, state, params)")
        old, new = (jnp.asarray(w, jnp.float32) for w in weights(state.seen))

        def step(average: jax.Array, p: jax.Array, u: jax.Array) -> jax.Array:
            after = (p + u).astype(average.dtype)
            return old.astype(average.dtype) * average + new.astype(average.dtype) * after

        average = jax.tree.map(step, state.average, params, updates)
        return updates, AverageState(average, old * state.weight + new, state.seen + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)
