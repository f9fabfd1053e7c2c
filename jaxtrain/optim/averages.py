"""Averages of the parameters over the steps of a run; evaluation uses them in place of the parameters.

Each is an optax transformation for the end of a chain, behind the optimizer. It returns the updates unchanged and
keeps an average of `params + updates` in its state, in at least float32. Integer parameters are not averaged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, PositiveInt, Steps
from jaxtrain.optim.trees import is_masked, widest

_Gain = Callable[[jax.Array, jax.Array], tuple[Any, Any]]
"""Function `(number of parameters averaged so far, weight) -> (share of the new ones, new weight)`."""


class AverageState(NamedTuple):
    """State of `polyak`, `ema` and `swa`.

    Attributes:
      average: the average, like the parameters, in float32 at least; `optax.MaskedNode` for integer parameters.
      steps: int32[], the number of updates made.
      samples: int32[], the number of updates whose parameters have been averaged.
      weight: f[], the sum of the weights of the averaged parameters; 0 while there is no average.
    """

    average: Any
    steps: jax.Array
    samples: jax.Array
    weight: jax.Array

    def evaluation_params(self, params: Any) -> Any:
        """Return the average in the dtypes of `params`, or `params` while nothing has been averaged."""

        def choose(average: Any, p: Any) -> Any:
            return p if is_masked(average) else jnp.where(self.weight > 0, average.astype(p.dtype), p)

        return jax.tree.map(choose, self.average, params, is_leaf=is_masked)


def polyak(decay: Fraction = 0.995) -> optax.GradientTransformationExtraArgs:
    """Build a running average of the parameters that begins with the initial ones.

        average = decay * average + (1 - decay) * x     after each update

    This is the running form of Polyak & Juditsky 1992, whose own average is a plain mean. It still contains
    `decay ** steps` of the initial parameters; `ema` divides that out.

    Args:
      decay: the share of the old average; the average looks back about 1 / (1 - decay) steps.

    Example:
      Parameters that grow by 1 in each update:

      >>> import jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.polyak(0.5)
      >>> x = jnp.float32(0)
      >>> state = tx.init(x)
      >>> for _ in range(4):
      ...     _, state = tx.update(jnp.float32(1), state, x)
      ...     x = x + 1
      ...     print(x, round(float(state.evaluation_params(x)), 3))
      1.0 0.5
      2.0 1.25
      3.0 2.125
      4.0 3.062
    """
    return _average_params(lambda _, weight: (1 - decay, weight), start=0, every=1, from_initial=True)


def ema(
    decay: Fraction = 0.999, *, debias: bool = True, warmup: bool = False, start: Steps = 0, every: PositiveInt = 1
) -> optax.GradientTransformationExtraArgs:
    """Build an exponential moving average of the parameters: `average = d * average + (1 - d) * x`, with `d = decay`.

    It averages the parameters after `start`, `start + every`, ... updates. Before that, evaluation uses the parameters
    as they are. As in Tarvainen & Valpola 2017, arXiv:1703.01780.

    Args:
      decay: d, the share of the old average.
      debias: whether the average starts from 0 and is divided by the sum of its weights, `1 - d ** samples`, as in Adam
        (Kingma & Ba 2015, section 3). If False, it starts from the parameters after `start` updates (the initial ones
        for 0), as in torch's `AveragedModel`.
      warmup: whether d = min(decay, (1 + n) / (10 + n)), with n the number of parameters averaged before, as in
        TensorFlow's `ExponentialMovingAverage`.
      start: the number of updates before the first average; the initial parameters count only if `debias` is False.
      every: the number of updates between two averages.

    Example:
      Parameters that grow by 1 in each update:

      >>> import jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.ema(0.5)
      >>> x = jnp.float32(0)
      >>> state = tx.init(x)
      >>> for _ in range(4):
      ...     _, state = tx.update(jnp.float32(1), state, x)
      ...     x = x + 1
      ...     print(x, round(float(state.evaluation_params(x)), 3))
      1.0 1.0
      2.0 1.667
      3.0 2.429
      4.0 3.267
    """

    def gain(samples: jax.Array, weight: jax.Array) -> tuple[Any, Any]:
        new: Any = 1 - decay
        if warmup:
            new = jnp.maximum(new, 9 / (10 + samples.astype(weight.dtype)))
        if not debias:
            return jnp.where(weight > 0, new, jnp.ones_like(weight)), 1
        weight = weight + new * (1 - weight)  # 1 minus the product of all d so far
        return new / weight, weight

    from_initial = not debias and isinstance(start, int) and start == 0
    return _average_params(gain, start=start, every=every, from_initial=from_initial)


def swa(start: Steps, *, every: Steps = 1) -> optax.GradientTransformationExtraArgs:
    """Build stochastic weight averaging: the plain mean of the parameters after `start`, `start + every`, ... updates.

    Izmailov et al. 2018, arXiv:1803.05407, algorithm 1. Before that, evaluation uses the parameters as they are. The
    initial parameters are never averaged.

    Args:
      start: the number of updates before the first average.
      every: the number of updates between two averages, such as a cycle of the learning rate; at least 1.

    Example:
      Parameters that grow by 1 in each update:

      >>> import jax.numpy as jnp, jaxtrain
      >>> tx = jaxtrain.optim.swa(2, every=2)
      >>> x = jnp.float32(0)
      >>> state = tx.init(x)
      >>> for _ in range(4):
      ...     _, state = tx.update(jnp.float32(1), state, x)
      ...     x = x + 1
      ...     print(x, round(float(state.evaluation_params(x)), 3))
      1.0 1.0
      2.0 2.0
      3.0 2.0
      4.0 3.0
    """
    if isinstance(every, int) and every < 1:
        raise ValueError(f"swa: every={every} must be at least 1 step")
    return _average_params(
        lambda samples, weight: (1 / (1 + samples.astype(weight.dtype)), 1), start=start, every=every
    )


def evaluation_params(opt_state: Any, params: Any) -> Any:
    """Return the parameters to evaluate.

    If one state in `opt_state` has a method `evaluation_params`, its result is returned, else `params`. States inside
    such a state do not count. Works inside jit and on abstract values.

    Raises:
      ValueError: if there are several such states; which one is meant is unknown.
    """
    states = _find_average_states(opt_state)
    if len(states) > 1:
        kinds = ", ".join(type(state).__name__ for state in states)
        raise ValueError(
            f"the optimizer keeps {len(states)} averages of the parameters ({kinds}), and evaluation can use only one; "
            "remove the others"
        )
    return states[0].evaluation_params(params) if states else params


def has_average(opt_state: Any) -> bool:
    """Return whether evaluation uses other parameters than the trained ones, because of a state in `opt_state`."""
    return bool(_find_average_states(opt_state))


def averages(opt_state: Any) -> list[Any]:
    """Return the averages in the states in `opt_state`, each like the parameters, without the other fields."""
    states = _find_average_states(opt_state)
    return [getattr(state, name) for state in states for name in ("average", "slow") if hasattr(state, name)]


def _find_average_states(opt_state: Any) -> list[Any]:
    def is_average(node: Any) -> bool:
        return hasattr(node, "evaluation_params")

    return [node for node in jax.tree.leaves(opt_state, is_leaf=is_average) if is_average(node)]


def _average_params(
    gain: _Gain, *, start: int, every: int, from_initial: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that keeps `average += share * (x - average)`, with the share that `gain` returns.

    x are the parameters after the updates that `start` and `every` select. In this form an average of equal parameters
    stays exact. The two shares of `d * average + (1 - d) * x`, each rounded separately, would not add up to 1.
    """

    def init(params: optax.Params) -> AverageState:
        def init_leaf(p: Any) -> Any:
            if not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
                return optax.MaskedNode()
            wide = jnp.array(p, widest(p))  # a copy, so that state and parameters can both be donated
            return wide if from_initial else jnp.zeros_like(wide)

        average = jax.tree.map(init_leaf, params)
        return AverageState(average, jnp.int32(0), jnp.int32(0), jnp.full((), from_initial, float))

    def update(
        updates: optax.Updates, state: AverageState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, AverageState]:
        del extra
        if params is None:
            raise ValueError("an average needs the parameters: call update(updates, state, params)")
        steps = state.steps + 1
        due = (steps >= start) & ((steps - start) % every == 0)
        share, weight = (jnp.asarray(x, state.weight.dtype) for x in gain(state.samples, state.weight))

        def average_leaf(average: Any, p: jax.Array, u: jax.Array) -> Any:
            if is_masked(average):
                return average
            x = optax.apply_updates(p, u).astype(average.dtype)
            return jnp.where(due, average + share.astype(average.dtype) * (x - average), average)

        average = jax.tree.map(average_leaf, state.average, params, updates, is_leaf=is_masked)
        samples = state.samples + due.astype(jnp.int32)
        return updates, AverageState(average, steps, samples, jnp.where(due, weight, state.weight))

    return optax.GradientTransformationExtraArgs(init, update)
