"""Newton's method with the whole Hessian, damped."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.bfgs import check_size
from jaxtrain.optim.chain import like
from jaxtrain.optim.lbfgs import objective


class NewtonState(NamedTuple):
    """State of `newton`: f[] the damping, and what it grows by at the next rejection."""

    damping: jax.Array
    growth: jax.Array


def newton(
    *,
    damping: NonNegativeFloat = 1e-3,
    levenberg_marquardt: bool = True,
    max_trials: PositiveInt = 20,
    max_damping: PositiveFloat = 1e12,
    max_parameters: PositiveInt = 10_000,
) -> optax.GradientTransformationExtraArgs:
    """Newton's method: x -= (H + damping * I)^-1 g, with the dense Hessian H of the objective.

    With Levenberg-Marquardt (Levenberg 1944; Marquardt 1963) a step is taken only where it lowers the objective. It is
    judged by its gain, the decrease over the decrease that the quadratic model promised: a good one lets the damping
    fall by up to 3, by the factor max(1/3, 1 - (2 gain - 1)^3); a rejected one raises it by 2, then 4, then 8, until
    one is taken (Nielsen 1999). A matrix that is not positive definite is a rejection, so that the step descends also
    where the Hessian is indefinite. Where nothing lowers the objective, the update is 0; after trials up to
    `max_damping` the next update begins with `damping` again.

    Without it the step is taken as it is: exact on a quadratic, of gradient descent with a learning rate of
    1 / damping for a large damping, and one that may climb where the Hessian is indefinite.

    The objective must be the same at each step: the full batch, no dropout, no augmentation.
    `update` needs `params` and `value_fn`, and takes `value`. H costs N gradients and N^2 numbers, its factors N^3 / 3.

    Args:
      damping: lambda, at the start with Levenberg-Marquardt.
      levenberg_marquardt: whether it is adapted.
      max_trials: in a step.
      max_damping: beyond this no step is tried.
      max_parameters: more are refused.

    Raises:
      ValueError: for a `damping` above `max_damping`; from `init`, for too many parameters, with the memory they need.
    """
    numbers = isinstance(damping, int | float) and isinstance(max_damping, int | float)
    if levenberg_marquardt and numbers and damping > max_damping:
        raise ValueError(f"newton tries no damping above max_damping={max_damping}, and damping={damping} is: lower it")

    def init(params: optax.Params) -> NewtonState:
        check_size("newton", params, max_parameters)
        wide = trees.widest(params)
        return NewtonState(jnp.asarray(damping, wide), jnp.asarray(2.0, wide))

    def update(
        updates: optax.Updates, state: NewtonState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, NewtonState]:
        value_fn, value = objective("newton", params, extra)
        x, restored = trees.flattened(params)
        g, _ = trees.flattened(updates)

        def flat(v: jax.Array) -> jax.Array:
            return value_fn(restored(v)).astype(x.dtype)

        hessian = jax.hessian(flat)(x)
        hessian = (hessian + hessian.T) / 2
        if not levenberg_marquardt:
            damped = hessian + like(damping, x) * jnp.eye(x.size, dtype=x.dtype)
            return restored(-jnp.linalg.solve(damped, g)), state

        def decrease(step: jax.Array) -> jax.Array:
            # at the very point that the update leads to: leaves may be in fewer bits than x
            there = value_fn(jax.tree.map(jnp.add, params, restored(step)))
            return value.astype(x.dtype) - there.astype(x.dtype)

        begin = _Trial(jnp.zeros_like(x), state.damping, state.growth, jnp.int32(0), jnp.bool_(False))
        end = _tried(begin, hessian, g, decrease, max_trials, max_damping)
        # beyond the limit no step would be tried ever again
        damping_after = jnp.where(end.damping <= max_damping, end.damping, jnp.asarray(damping, x.dtype))
        growth = jnp.where(end.accepted, end.growth, 2)
        return restored(end.step), NewtonState(damping_after, growth)

    return optax.GradientTransformationExtraArgs(init, update)


class _Trial(NamedTuple):
    step: jax.Array
    damping: jax.Array
    growth: jax.Array
    tried: jax.Array
    accepted: jax.Array


def _tried(
    begin: _Trial,
    hessian: jax.Array,
    g: jax.Array,
    decrease: Callable[[jax.Array], jax.Array],
    max_trials: int,
    max_damping: float,
) -> _Trial:
    """The last of the trials: steps that are damped more and more, until one lowers the objective."""

    def attempt(carry: _Trial) -> _Trial:
        factor = jnp.linalg.cholesky(hessian + carry.damping * jnp.eye(g.size, dtype=g.dtype))
        step = -jax.scipy.linalg.cho_solve((factor, True), g)
        promised = -(g @ step + step @ hessian @ step / 2)
        lowered = decrease(step)
        lowers = jnp.isfinite(step).all() & (g @ step < 0) & (lowered > 0)
        gain = lowered / jnp.where(promised > 0, promised, jnp.inf)
        eased = carry.damping * jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        # from no damping at all the first is a small part of the curvature there is
        least = np.finfo(g.dtype).eps * jnp.max(jnp.abs(jnp.diagonal(hessian)), initial=1)
        raised = jnp.maximum(carry.damping, least) * carry.growth
        return _Trial(
            jnp.where(lowers, step, 0),
            jnp.where(lowers, eased, raised),
            jnp.where(lowers, 2, 2 * carry.growth),
            carry.tried + 1,
            lowers,
        )

    def goes_on(carry: _Trial) -> jax.Array:
        return ~carry.accepted & (carry.tried < max_trials) & (carry.damping <= max_damping)

    return jax.lax.while_loop(goes_on, attempt, begin)
