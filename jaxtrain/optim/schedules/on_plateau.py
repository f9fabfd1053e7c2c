"""A learning rate that is reduced when the validation metric has stopped improving.

The learning rate depends on the results of evaluations, not on the step alone. So a `Plateau` has a small state.
`with_plateau` keeps it inside the optimizer's state, and thereby in every checkpoint.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Interval, NonNegativeFloat, NonNegativeInt, Steps
from jaxtrain.optim.schedules.base import Schedule, add_warmup

Reduction = Annotated[float, Interval(above=0, below=1)]


class PlateauState(NamedTuple):
    """State of a `Plateau`.

    Attributes:
      rate: f[], the learning rate after the warm-up.
      best: f[], the best metric so far; NaN before the first.
      bad: int32[], the number of evaluations without an improvement.
      cooling: int32[], the number of evaluations left, after a reduction, that do not count as bad.
    """

    rate: jax.Array
    best: jax.Array
    bad: jax.Array
    cooling: jax.Array


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Controller that `plateau` builds; its fields are the options of `plateau`."""

    peak: float
    factor: float
    patience: int
    threshold: float
    threshold_mode: str
    cooldown: int
    end: float
    warmup: int

    def init(self) -> PlateauState:
        """Return the state before the first evaluation."""
        wide = jnp.result_type(float)
        return PlateauState(
            jnp.asarray(self.peak, wide),
            jnp.asarray(jnp.nan, wide),
            jnp.asarray(0, jnp.int32),
            jnp.asarray(0, jnp.int32),
        )

    def observe(self, state: PlateauState, metric: jax.typing.ArrayLike, *, higher_is_better: bool) -> PlateauState:
        """Return the state after an evaluation with the result `metric`, f[]; a NaN is not an improvement."""
        value = jnp.asarray(metric).astype(state.best.dtype)
        better = jnp.isnan(state.best) & ~jnp.isnan(value) | self._improves(value, state.best, higher_is_better)
        bad = jnp.where(better, 0, state.bad + 1)
        bad = jnp.where(state.cooling > 0, 0, bad)
        cooling = jnp.maximum(state.cooling - 1, 0)
        reduce = bad > self.patience
        lower = jnp.maximum(state.rate * self.factor, self.end)
        return PlateauState(
            rate=jnp.where(reduce & (state.rate - lower > 1e-8), lower, state.rate),
            best=jnp.where(better, value, state.best),
            bad=jnp.where(reduce, 0, bad).astype(jnp.int32),
            cooling=jnp.where(reduce, self.cooldown, cooling).astype(jnp.int32),
        )

    def value(self, state: PlateauState, count: jax.typing.ArrayLike) -> jax.Array:
        """Return the learning rate at step `count`: linear from 0 in the warm-up, then the rate in the state."""
        warm = add_warmup(jnp.ones_like, 1.0, self.warmup)
        return state.rate * warm(count)

    def __call__(self, count: jax.typing.ArrayLike) -> jax.Array:
        """Raise `ValueError`: the step alone does not determine the learning rate."""
        raise ValueError(
            "a plateau needs the validation metric: wrap the optimizer with jaxtrain.optim.schedules.with_plateau"
            "(lambda rate: sgd(rate), plateau(...)) and pass it each metric with observe_plateau"
        )

    def _improves(self, value: jax.Array, best: jax.Array, higher: bool) -> jax.Array:
        if self.threshold_mode == "relative":
            return value > best * (1 + self.threshold) if higher else value < best * (1 - self.threshold)
        return value > best + self.threshold if higher else value < best - self.threshold


def plateau(
    peak: NonNegativeFloat,
    *,
    factor: Reduction = 0.1,
    patience: NonNegativeInt = 10,
    threshold: NonNegativeFloat = 1e-4,
    threshold_mode: Literal["relative", "absolute"] = "relative",
    cooldown: NonNegativeInt = 0,
    end: NonNegativeFloat = 0.0,
    warmup: Steps = 0,
) -> Plateau:
    """Build a schedule that reduces the value after more than `patience` evaluations without an improvement.

    It is torch's `ReduceLROnPlateau`: "divide by 10 when the validation error stops improving"
    (Krizhevsky et al. 2012; He et al. 2016).

    Args:
      peak: the value after the warm-up and before any reduction.
      factor: the factor of a reduction.
      patience: the number of evaluations without an improvement that cause no reduction.
      threshold: the least difference to the best metric that counts as an improvement.
      threshold_mode: the unit of `threshold`: "relative" is a fraction of the best metric, "absolute" the metric's
        unit.
      cooldown: the number of evaluations after a reduction that do not count as bad.
      end: the lowest value.
      warmup: the number of steps in which the value rises linearly from 0.

    Example:
      The error does not improve in two evaluations, so the learning rate falls:

      >>> import jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.optim.schedules import observe_plateau, plateau, plateau_state, with_plateau
      >>> controller = plateau(0.1, patience=1)
      >>> tx = with_plateau(lambda rate: jaxtrain.optim.sgd(rate), controller)
      >>> state = tx.init(jnp.zeros(3))
      >>> for error in (0.5, 0.4, 0.4, 0.4):
      ...     state = observe_plateau(controller, state, error, higher_is_better=False)
      ...     print(round(float(plateau_state(state).rate), 3))
      0.1
      0.1
      0.1
      0.01
    """
    if end > peak:
        raise ValueError(f"end={end} is above peak={peak}; lower end or raise peak")
    return Plateau(peak, factor, patience, threshold, threshold_mode, cooldown, end, warmup)


class WithPlateau(NamedTuple):
    """State of `with_plateau`: the states of the controller and of the inner optimizer."""

    plateau: PlateauState
    inner: Any


def with_plateau(
    make: Callable[[Schedule], optax.GradientTransformationExtraArgs], plateau: Plateau
) -> optax.GradientTransformationExtraArgs:
    """Build an optimizer that takes its learning rate from `plateau`.

    Every place of the learning rate in the optimizer (inside a velocity, on a decoupled decay) gets the reduced one.

    Args:
      make: a function `learning rate -> optimizer`, such as `lambda rate: momentum(rate)`; the update calls it when
        traced.
      plateau: the controller; pass it each metric with `observe_plateau`.
    """

    def inner(state: PlateauState) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(make(lambda count: plateau.value(state, count)))

    def init(params: optax.Params) -> WithPlateau:
        state = plateau.init()
        return WithPlateau(state, inner(state).init(params))

    def update(
        updates: optax.Updates, state: WithPlateau, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, WithPlateau]:
        updates, new = inner(state.plateau).update(updates, state.inner, params, **extra)
        return updates, WithPlateau(state.plateau, new)

    return optax.GradientTransformationExtraArgs(init, update)


def plateau_state(opt_state: Any) -> PlateauState:
    """Return the state of the controller inside an optimizer's state.

    Raises:
      ValueError: if there is none.
    """
    nodes = [node for node in jax.tree.leaves(opt_state, is_leaf=_is_plateau_node) if _is_plateau_node(node)]
    if not nodes:
        raise ValueError("this optimizer state has no plateau; build the optimizer with with_plateau")
    state: PlateauState = nodes[0].plateau
    return state


def observe_plateau(plateau: Plateau, opt_state: Any, metric: jax.typing.ArrayLike, *, higher_is_better: bool) -> Any:
    """Return the optimizer's state after an evaluation with the result `metric`; pure, and may be jitted."""

    def observe_node(node: Any) -> Any:
        if not _is_plateau_node(node):
            return node
        return node._replace(plateau=plateau.observe(node.plateau, metric, higher_is_better=higher_is_better))

    return jax.tree.map(observe_node, opt_state, is_leaf=_is_plateau_node)


def _is_plateau_node(node: Any) -> bool:
    return isinstance(node, WithPlateau)
