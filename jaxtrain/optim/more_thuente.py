"""The interval of a line search and its next trial (More & Thuente 1994, ACM TOMS 20(3), sections 2 to 4)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_STEP = 1e10
"""Largest step that is tried."""


class LinePoint(NamedTuple):
    """Point on the line: its step, value and slope."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class Bracket(NamedTuple):
    """State of the search.

    Attributes:
      best: the end of the interval with the lowest value.
      other: the other end.
      trial: f[], the next step to evaluate.
      bracketed: bool[], whether a minimum lies between the ends.
      second_stage: bool[], whether the search no longer uses the auxiliary function.
      least: f[], the lowest step allowed for a trial.
      most: f[], the highest step allowed for a trial.
      width: f[], the width of the interval.
      width_before: f[], the width of the interval two trials ago.
      ceiling: f[], a step with a value that was not finite.
    """

    best: LinePoint
    other: LinePoint
    trial: jax.Array
    bracketed: jax.Array
    second_stage: jax.Array
    least: jax.Array
    most: jax.Array
    width: jax.Array
    width_before: jax.Array
    ceiling: jax.Array


def start_bracket(value: jax.Array, slope: jax.Array, initial: jax.Array) -> Bracket:
    """Return the state before the first trial, which is the step `initial`."""
    zero, no = jnp.zeros_like(initial), jnp.bool_(False)
    origin = LinePoint(zero, value, slope.astype(value.dtype))
    ceiling = jnp.full_like(initial, MAX_STEP)
    trial = jnp.minimum(initial, ceiling)
    return Bracket(origin, origin, trial, no, no, zero, 5 * trial, ceiling, 2 * ceiling, ceiling)


def next_bracket(
    old: Bracket, value: jax.Array, slope: jax.Array, phi: jax.Array, rise: jax.Array, finite: jax.Array, c1: float
) -> tuple[Bracket, jax.Array]:
    """Return the state after the trial had the value `phi` and the slope `rise`, and whether no better trial exists.

    Args:
      old: the state before the trial.
      value: f[], the value at the start of the line.
      slope: f[], the slope at the start of the line.
      phi: f[], the value at the trial.
      rise: f[], the slope at the trial.
      finite: bool[], whether both are finite; if not, the next trial goes back most of the way.
      c1: the required decrease, as a fraction of the decrease predicted by the slope.
    """
    test = c1 * slope
    trial = LinePoint(old.trial, phi, rise.astype(phi.dtype))
    below = phi <= value + old.trial * test
    second = old.second_stage | (below & (rise >= 0))
    # Use the auxiliary function psi(t) = phi(t) - c1 slope t while the trial is lower but not low enough.
    auxiliary = ~second & (phi <= old.best.value) & ~below
    tilt = jnp.where(auxiliary, test, 0)
    x, y, t = (LinePoint(e.step, e.value - e.step * tilt, e.slope - tilt) for e in (old.best, old.other, trial))
    most = jnp.minimum(old.most, old.ceiling)
    best, other, step, bracketed = _update_interval(x, y, t, old.bracketed, old.least, most)
    best, other = (LinePoint(e.step, e.value + e.step * tilt, e.slope + tilt) for e in (best, other))
    wide = jnp.abs(other.step - best.step)
    slow = bracketed & (wide >= 0.66 * old.width_before)
    step = jnp.where(slow, best.step + 0.5 * (other.step - best.step), step)
    least = jnp.where(bracketed, jnp.minimum(best.step, other.step), step + 1.1 * (step - best.step))
    most = jnp.where(bracketed, jnp.maximum(best.step, other.step), step + 4 * (step - best.step))
    step = jnp.clip(step, 0, old.ceiling)
    eps = np.finfo(step.dtype).eps
    stuck = bracketed & ((step <= least) | (step >= most) | (most - least <= 4 * eps * most))
    new = Bracket(
        best,
        other,
        step,
        bracketed,
        second,
        least,
        most,
        jnp.where(bracketed, wide, old.width),
        jnp.where(bracketed, old.width, old.width_before),
        old.ceiling,
    )
    back = old.best.step + 0.1 * (old.trial - old.best.step)
    retreat = old._replace(trial=back, ceiling=old.trial, least=old.best.step, most=old.trial)
    no_room = back <= old.best.step * (1 + eps)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, retreat), jnp.where(finite, stuck, no_room)


def _update_interval(
    x: LinePoint, y: LinePoint, t: LinePoint, bracketed: jax.Array, least: jax.Array, most: jax.Array
) -> tuple[LinePoint, LinePoint, jax.Array, jax.Array]:
    """Return the new ends, the next trial and whether it is bracketed (section 4, the four cases)."""
    far = t.step > x.step
    opposite = t.slope * jnp.sign(x.slope) < 0
    cubic, quadratic, secant = _cubic_minimizer(x, t), _quadratic_minimizer(x, t), _secant_zero(x, t)
    # 1: a higher value; the minimum lies between the points
    first = jnp.where(jnp.abs(cubic - x.step) < jnp.abs(quadratic - x.step), cubic, cubic + (quadratic - cubic) / 2)
    # 2: a lower value and a slope of opposite sign; the minimum lies between the points
    second = jnp.where(jnp.abs(cubic - t.step) > jnp.abs(secant - t.step), cubic, secant)
    # 3: a lower value and a flatter slope of the same sign
    limit = jnp.where(far, most, least)
    far_step = jnp.where(_has_minimum_beyond(x, t), cubic, limit)
    is_nearer = jnp.abs(far_step - t.step) < jnp.abs(secant - t.step)
    inside = jnp.where(is_nearer, far_step, secant)
    guard = t.step + 0.66 * (y.step - t.step)
    inside = jnp.where(far, jnp.minimum(guard, inside), jnp.maximum(guard, inside))
    outside = jnp.clip(jnp.where(is_nearer, secant, far_step), least, most)
    third = jnp.where(bracketed, inside, outside)
    # 4: a lower value and a slope of the same sign that is not flatter
    fourth = jnp.where(bracketed, _cubic_minimizer(y, t), limit)
    higher = t.value > x.value
    flatter = jnp.abs(t.slope) < jnp.abs(x.slope)
    step = jnp.where(higher, first, jnp.where(opposite, second, jnp.where(flatter, third, fourth)))
    new_y = _choose(higher, t, _choose(opposite, x, y))
    new_x = _choose(higher, x, t)
    return new_x, new_y, step, bracketed | higher | opposite


def _cubic_minimizer(a: LinePoint, t: LinePoint) -> jax.Array:
    """Return the minimizer of the cubic through the values and slopes of both points."""
    gap = t.step - a.step
    theta, gamma = _cubic_parts(a, t)
    gamma = jnp.where(gap < 0, -gamma, gamma)
    ratio = (gamma - a.slope + theta) / _nonzero(2 * gamma - a.slope + t.slope)
    return a.step + ratio * gap


def _cubic_parts(a: LinePoint, t: LinePoint) -> tuple[jax.Array, jax.Array]:
    theta = 3 * (a.value - t.value) / _nonzero(t.step - a.step) + a.slope + t.slope
    size = _nonzero(jnp.maximum(jnp.abs(theta), jnp.maximum(jnp.abs(a.slope), jnp.abs(t.slope))))
    inner = jnp.square(theta / size) - (a.slope / size) * (t.slope / size)
    return theta, size * jnp.sqrt(jnp.maximum(inner, 0))


def _has_minimum_beyond(a: LinePoint, t: LinePoint) -> jax.Array:
    """Return whether the cubic has a minimum on the far side of the trial."""
    theta, gamma = _cubic_parts(a, t)
    gamma = jnp.where(t.step > a.step, -gamma, gamma)
    ratio = (gamma - t.slope + theta) / _nonzero(gamma + (a.slope - t.slope) + gamma)
    return (ratio < 0) & (gamma != 0)


def _quadratic_minimizer(a: LinePoint, t: LinePoint) -> jax.Array:
    """Return the minimizer of the parabola through both values and the slope of `a`."""
    gap = t.step - a.step
    return a.step + a.slope / _nonzero((a.value - t.value) / _nonzero(gap) + a.slope) / 2 * gap


def _secant_zero(a: LinePoint, t: LinePoint) -> jax.Array:
    """Return the zero of the line through both slopes."""
    return t.step + t.slope / _nonzero(t.slope - a.slope) * (a.step - t.step)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, np.finfo(x.dtype).tiny, x)


def _choose(condition: jax.Array, a: LinePoint, b: LinePoint) -> LinePoint:
    return LinePoint(*(jnp.where(condition, p, q) for p, q in zip(a, b, strict=True)))
