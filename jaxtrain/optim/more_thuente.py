"""The interval of a line search and its next trial, after More & Thuente 1994 (ACM TOMS 20(3), sections 2 to 4)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LONGEST = 1e10
"""Steps beyond this are not tried."""


class End(NamedTuple):
    """A point of the line: its step, value and slope."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class Bracket(NamedTuple):
    """Where the search stands.

    Attributes:
      best: the end of the interval with the least value.
      other: its other end.
      trial: f[], the step to evaluate next.
      bracketed: bool[], whether a minimum lies between the ends.
      second_stage: bool[], whether the auxiliary function has been left behind.
      least: f[], the lowest step allowed for a trial.
      most: f[], the highest.
      width: f[], of the interval.
      width_before: f[], two trials ago.
      ceiling: f[], a step at which the value was not finite.
    """

    best: End
    other: End
    trial: jax.Array
    bracketed: jax.Array
    second_stage: jax.Array
    least: jax.Array
    most: jax.Array
    width: jax.Array
    width_before: jax.Array
    ceiling: jax.Array


def start_bracket(value: jax.Array, slope: jax.Array, initial: jax.Array) -> Bracket:
    """The state before the first trial, at `initial`."""
    zero, no = jnp.zeros_like(initial), jnp.bool_(False)
    origin = End(zero, value, slope.astype(value.dtype))
    ceiling = jnp.full_like(initial, LONGEST)
    trial = jnp.minimum(initial, ceiling)
    return Bracket(origin, origin, trial, no, no, zero, 5 * trial, ceiling, 2 * ceiling, ceiling)


def next_bracket(
    old: Bracket, value: jax.Array, slope: jax.Array, phi: jax.Array, rise: jax.Array, finite: jax.Array, c1: float
) -> tuple[Bracket, jax.Array]:
    """The state after the trial had the value `phi` and the slope `rise`, and whether no better trial is to be had.

    Args:
      old: the state before.
      value: f[], at the start of the line.
      slope: f[], there.
      phi: f[], value at the trial.
      rise: f[], slope at the trial.
      finite: bool[], whether both are finite; where not, the next trial goes back most of the way.
      c1: of the sufficient decrease.
    """
    test = c1 * slope
    trial = End(old.trial, phi, rise.astype(phi.dtype))
    below = phi <= value + old.trial * test
    second = old.second_stage | (below & (rise >= 0))
    # the auxiliary function psi(t) = phi(t) - c1 slope t, as long as the trial is lower and yet not low enough
    auxiliary = ~second & (phi <= old.best.value) & ~below
    tilt = jnp.where(auxiliary, test, 0)
    x, y, t = (End(e.step, e.value - e.step * tilt, e.slope - tilt) for e in (old.best, old.other, trial))
    best, other, step, bracketed = _step(x, y, t, old.bracketed, old.least, jnp.minimum(old.most, old.ceiling))
    best, other = (End(e.step, e.value + e.step * tilt, e.slope + tilt) for e in (best, other))
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


def _step(
    x: End, y: End, t: End, bracketed: jax.Array, least: jax.Array, most: jax.Array
) -> tuple[End, End, jax.Array, jax.Array]:
    """The new ends, the next trial and whether it is bracketed (section 4, the four cases)."""
    far = t.step > x.step
    opposite = t.slope * jnp.sign(x.slope) < 0
    cubic, quadratic, secant = _cubic(x, t), _quadratic(x, t), _secant(x, t)
    # 1: a higher value, so that the minimum lies between
    first = jnp.where(jnp.abs(cubic - x.step) < jnp.abs(quadratic - x.step), cubic, cubic + (quadratic - cubic) / 2)
    # 2: a lower value with a slope of the other sign, the same
    second = jnp.where(jnp.abs(cubic - t.step) > jnp.abs(secant - t.step), cubic, secant)
    # 3: a lower value, and the slope has become less steep
    limit = jnp.where(far, most, least)
    onward = jnp.where(_beyond(x, t), cubic, limit)
    nearer = jnp.abs(onward - t.step) < jnp.abs(secant - t.step)
    inside = jnp.where(nearer, onward, secant)
    guard = t.step + 0.66 * (y.step - t.step)
    inside = jnp.where(far, jnp.minimum(guard, inside), jnp.maximum(guard, inside))
    outside = jnp.clip(jnp.where(nearer, secant, onward), least, most)
    third = jnp.where(bracketed, inside, outside)
    # 4: a lower value, and the slope has not
    fourth = jnp.where(bracketed, _cubic(y, t), limit)
    higher = t.value > x.value
    flatter = jnp.abs(t.slope) < jnp.abs(x.slope)
    step = jnp.where(higher, first, jnp.where(opposite, second, jnp.where(flatter, third, fourth)))
    new_y = _choose(higher, t, _choose(opposite, x, y))
    new_x = _choose(higher, x, t)
    return new_x, new_y, step, bracketed | higher | opposite


def _cubic(a: End, t: End) -> jax.Array:
    """The minimum of the cubic through values and slopes of both points."""
    gap = t.step - a.step
    theta, gamma = _cubic_parts(a, t)
    gamma = jnp.where(gap < 0, -gamma, gamma)
    ratio = (gamma - a.slope + theta) / _nonzero(2 * gamma - a.slope + t.slope)
    return a.step + ratio * gap


def _cubic_parts(a: End, t: End) -> tuple[jax.Array, jax.Array]:
    theta = 3 * (a.value - t.value) / _nonzero(t.step - a.step) + a.slope + t.slope
    size = _nonzero(jnp.maximum(jnp.abs(theta), jnp.maximum(jnp.abs(a.slope), jnp.abs(t.slope))))
    inner = jnp.square(theta / size) - (a.slope / size) * (t.slope / size)
    return theta, size * jnp.sqrt(jnp.maximum(inner, 0))


def _beyond(a: End, t: End) -> jax.Array:
    """Whether the cubic has a minimum, and on the far side of the trial."""
    theta, gamma = _cubic_parts(a, t)
    gamma = jnp.where(t.step > a.step, -gamma, gamma)
    ratio = (gamma - t.slope + theta) / _nonzero(gamma + (a.slope - t.slope) + gamma)
    return (ratio < 0) & (gamma != 0)


def _quadratic(a: End, t: End) -> jax.Array:
    """The minimum of the parabola through both values and the slope of `a`."""
    gap = t.step - a.step
    return a.step + a.slope / _nonzero((a.value - t.value) / _nonzero(gap) + a.slope) / 2 * gap


def _secant(a: End, t: End) -> jax.Array:
    """The zero of the line through both slopes."""
    return t.step + t.slope / _nonzero(t.slope - a.slope) * (a.step - t.step)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, np.finfo(x.dtype).tiny, x)


def _choose(condition: jax.Array, a: End, b: End) -> End:
    return End(*(jnp.where(condition, p, q) for p, q in zip(a, b, strict=True)))
