"""A learning rate that is reduced when the validation metric has stopped improving.

The rate depends on what evaluations said, so it is no function of the step alone: a `Plateau` keeps a small state,
which `with_plateau` carries inside the state of the optimizer, and with it in every checkpoint.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Interval, NonNegativeFloat, NonNegativeInt, Steps
from jaxtrain.optim.schedules.base import Schedule, after_warmup

Reduction = Annotated[float, Interval(above=0, below=1)]


class PlateauState(NamedTuple):
    """Where a `Plateau` stands.

    Attributes:
      rate: f[], the learning rate after the warm-up.
      best: f[], the best metric so far; NaN before the first.
      bad: int32[], evaluations without an improvement.
      cooling: int32[], evaluations for which none is counted, after a reduction.
    """

    rate: jax.Array
    best: jax.Array
    bad: jax.Array
    cooling: jax.Array


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The controller that `plateau` makes; its fields are the options there."""

    peak: float
    factor: float
    patience: int
    threshold: float
    threshold_mode: str
    cooldown: int
    end: float
    warmup: int

    def init(self) -> PlateauState:
        """The state before the first evaluation."""
        wide = jnp.result_type(float)
        return PlateauState(
            jnp.asarray(self.peak, wide),
            jnp.asarray(jnp.nan, wide),
            jnp.asarray(0, jnp.int32),
            jnp.asarray(0, jnp.int32),
        )

    def observe(self, state: PlateauState, metric: jax.typing.ArrayLike, *, higher_is_better: bool) -> PlateauState:
        """The state after an evaluation that gave `metric`, f[]; a NaN is no improvement."""
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
        """The learning rate at step `count`: linear from 0 in the warm-up, then what the state says."""
        warm = after_warmup(jnp.ones_like, 1.0, self.warmup)
        return state.rate * warm(count)

    def __call__(self, count: jax.typing.ArrayLike) -> jax.Array:
        """Raises `ValueError`: the step alone does not tell."""
        raise ValueError(
            "a plateau needs the validation metric: wrap the optimizer with jaxtrain.optim.schedules.with_plateau"
            "(lambda rate: sgd(rate), plateau(...)) and tell it each metric with observe_plateau"
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
    """Multiplied by `factor` after more than `patience` evaluations without improvement; torch's `ReduceLROnPlateau`.

    "Divide by 10 when the validation error stops improving" (Krizhevsky et al. 2012; He et al. 2016).

    Args:
      peak: the value after the warm-up and before any reduction.
      factor: what a reduction multiplies by.
      patience: evaluations without an improvement that are let pass.
      threshold: how much better than the best an improvement must be.
      threshold_mode: as a fraction of the best, or as it is.
      cooldown: evaluations after a reduction in which none is counted.
      end: the lowest value.
      warmup: steps over which the value rises linearly from 0.
    """
    if end > peak:
        raise ValueError(f"end={end} lies above peak={peak}")
    return Plateau(peak, factor, patience, threshold, threshold_mode, cooldown, end, warmup)


class WithPlateau(NamedTuple):
    """State of `with_plateau`: that of the controller and that of the optimizer inside."""

    plateau: PlateauState
    inner: Any


def with_plateau(
    make: Callable[[Schedule], optax.GradientTransformationExtraArgs], plateau: Plateau
) -> optax.GradientTransformationExtraArgs:
    """The optimizer that `make` builds from a schedule, with the learning rate that `plateau` gives.

    Wherever the rule puts its learning rate (inside a velocity, on a decoupled decay), the reduced one arrives.

    Args:
      make: `learning rate -> optimizer`, such as `lambda rate: momentum(rate)`; called when the update is traced.
      plateau: the controller; tell it each metric with `observe_plateau`.
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
    """The state of the controller inside an optimizer's state; `ValueError` where there is none."""
    nodes = [node for node in jax.tree.leaves(opt_state, is_leaf=_is_node) if _is_node(node)]
    if not nodes:
        raise ValueError("there is no plateau in this state of an optimizer")
    found: PlateauState = nodes[0].plateau
    return found


def observe_plateau(plateau: Plateau, opt_state: Any, metric: jax.typing.ArrayLike, *, higher_is_better: bool) -> Any:
    """The optimizer's state after an evaluation that gave `metric`; pure, and may be jitted."""

    def told(node: Any) -> Any:
        if not _is_node(node):
            return node
        return node._replace(plateau=plateau.observe(node.plateau, metric, higher_is_better=higher_is_better))

    return jax.tree.map(told, opt_state, is_leaf=_is_node)


def _is_node(node: Any) -> bool:
    return isinstance(node, WithPlateau)
