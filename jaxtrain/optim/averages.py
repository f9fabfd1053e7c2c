"""Averages of the parameters over the steps of a run, which evaluation uses in place of the parameters themselves.

Each is an optax transformation that stands behind an optimizer in a chain: it hands the updates on unchanged and keeps
an average of `params + updates`, in float32 at least, in its state. Parameters that are whole numbers are not averaged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, PositiveInt, Steps
from jaxtrain.optim.trees import is_masked, widest

_Gain = Callable[[jax.Array, jax.Array], tuple[Any, Any]]
"""`(parameters averaged so far, weight) -> (share of the new ones, new weight)`."""


class AverageState(NamedTuple):
    """State of `polyak`, `ema` and `swa`.

    Attributes:
      average: like the parameters, in float32 at least; `optax.MaskedNode` where there is nothing to average.
      steps: int32[], updates made.
      samples: int32[], how many of the parameters after them have been averaged.
      weight: f[], what their weights add up to; 0 where there is no average yet.
    """

    average: Any
    steps: jax.Array
    samples: jax.Array
    weight: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """The average, in the dtypes of `params`; `params` themselves while nothing has been averaged."""

        def choose(average: Any, p: Any) -> Any:
            return p if is_masked(average) else jnp.where(self.weight > 0, average.astype(p.dtype), p)

        return jax.tree.map(choose, self.average, params, is_leaf=is_masked)


def polyak(decay: Fraction = 0.995) -> optax.GradientTransformationExtraArgs:
    """`average = decay * average + (1 - decay) * x` after each update, from the initial parameters on.

    This is the running form of Polyak & Juditsky 1992, whose own average is plain. It still holds `decay ** steps` of
    the initial parameters; `ema` divides that out.

    Args:
      decay: share of the old average; it looks back about 1 / (1 - decay) steps.
    """
    return _averaging(lambda _, weight: (1 - decay, weight), start=0, every=1, from_initial=True)


def ema(
    decay: Fraction = 0.999, *, debias: bool = True, warmup: bool = False, start: Steps = 0, every: PositiveInt = 1
) -> optax.GradientTransformationExtraArgs:
    """Exponential moving average of the parameters: `average = d * average + (1 - d) * x`, with `d = decay`.

    Averaged are the parameters after `start`, `start + every`, ... updates; before that, evaluation uses the parameters
    as they are.

    Args:
      decay: d, the share of the old average.
      debias: start from 0 and divide by `1 - d ** samples`, what the weights add up to, as Adam does (Kingma & Ba 2015,
        section 3). Without it the average starts from the parameters after `start` updates (the initial ones for 0), as
        torch's `AveragedModel` does.
      warmup: d = min(decay, (1 + n) / (10 + n)) where n parameters have been averaged before, as in TensorFlow's
        `ExponentialMovingAverage`.
      start: updates before the first parameters that are averaged; the initial ones are counted only without `debias`.
      every: updates from one to the next.
    """

    def gain(samples: jax.Array, weight: jax.Array) -> tuple[Any, Any]:
        new: Any = 1 - decay
        if warmup:
            new = jnp.maximum(new, 9 / (10 + samples.astype(weight.dtype)))
        if not debias:
            return jnp.where(weight > 0, new, jnp.ones_like(weight)), 1
        weight = weight + new * (1 - weight)  # 1 minus the product of all d
        return new / weight, weight

    from_initial = not debias and isinstance(start, int) and start == 0
    return _averaging(gain, start=start, every=every, from_initial=from_initial)


def swa(start: Steps, *, every: Steps = 1) -> optax.GradientTransformationExtraArgs:
    """Stochastic weight averaging: the plain mean of the parameters after `start`, `start + every`, ... updates.

    Izmailov et al. 2018, algorithm 1. Before that, evaluation uses the parameters as they are. The initial parameters
    are never averaged.

    Args:
      start: updates before the first parameters that are averaged.
      every: updates from one to the next, such as a cycle of the learning rate; 1 at least.
    """
    if isinstance(every, int) and every < 1:
        raise ValueError(f"swa averages parameters that are `every` steps apart, and that is {every}; give 1 at least")
    return _averaging(lambda samples, weight: (1 / (1 + samples.astype(weight.dtype)), 1), start=start, every=every)


def evaluation_params(opt_state: Any, params: Any) -> Any:
    """The parameters to evaluate: what the one state in `opt_state` with a method of this name says, else `params`.

    States inside such a state do not count. Works inside jit and on abstract values.

    Raises:
      ValueError: where there are several; which of them is meant cannot be known.
    """
    found = _averaging_states(opt_state)
    if len(found) > 1:
        kinds = ", ".join(type(state).__name__ for state in found)
        raise ValueError(
            f"the optimizer keeps {len(found)} averages of the parameters ({kinds}), and evaluation can use one; "
            "leave the others out"
        )
    return found[0].evaluation_params(params) if found else params


def has_average(opt_state: Any) -> bool:
    """Whether a state in `opt_state` has evaluation use other parameters than those that are trained."""
    return bool(_averaging_states(opt_state))


def averages(opt_state: Any) -> list[Any]:
    """Return the averages that states in `opt_state` keep, each like the parameters, without their other fields."""
    states = _averaging_states(opt_state)
    return [getattr(state, name) for state in states for name in ("average", "slow") if hasattr(state, name)]


def _averaging_states(opt_state: Any) -> list[Any]:
    def averages(node: Any) -> bool:
        return hasattr(node, "evaluation_params")

    return [node for node in jax.tree.leaves(opt_state, is_leaf=averages) if averages(node)]


def _averaging(
    gain: _Gain, *, start: int, every: int, from_initial: bool = False
) -> optax.GradientTransformationExtraArgs:
    """`average += share * (x - average)` with the share that `gain` says, for the x after some of the updates.

    In this form an average of equal parameters stays as it is; the two shares of `d * average + (1 - d) * x`, each
    rounded by itself, do not add up to 1.
    """

    def init(params: optax.Params) -> AverageState:
        def first(p: Any) -> Any:
            if not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
                return optax.MaskedNode()
            wide = jnp.array(p, widest(p))  # a copy, so that state and parameters can both be donated
            return wide if from_initial else jnp.zeros_like(wide)

        average = jax.tree.map(first, params)
        return AverageState(average, jnp.int32(0), jnp.int32(0), jnp.full((), from_initial, float))

    def update(
        updates: optax.Updates, state: AverageState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, AverageState]:
        del extra
        if params is None:
            raise ValueError("an average of the parameters needs them: call update(updates, state, params)")
        steps = state.steps + 1
        due = (steps >= start) & ((steps - start) % every == 0)
        share, weight = (jnp.asarray(x, state.weight.dtype) for x in gain(state.samples, state.weight))

        def step(average: Any, p: jax.Array, u: jax.Array) -> Any:
            if is_masked(average):
                return average
            x = optax.apply_updates(p, u).astype(average.dtype)
            return jnp.where(due, average + share.astype(average.dtype) * (x - average), average)

        average = jax.tree.map(step, state.average, params, updates, is_leaf=is_masked)
        samples = state.samples + due.astype(jnp.int32)
        return updates, AverageState(average, steps, samples, jnp.where(due, weight, state.weight))

    return optax.GradientTransformationExtraArgs(init, update)
