"""Newton's method with the dense, damped Hessian."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtrain.annotations import NonNegativeFloat, PositiveFloat, PositiveInt
from jaxtrain.optim import trees
from jaxtrain.optim.bfgs import check_size
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.lbfgs import require_objective


class NewtonState(NamedTuple):
    """State of `newton`: f[] the damping, and f[] its factor at the next rejected step."""

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
    """Build Newton's method with the dense Hessian H of the objective (Nocedal & Wright 2006, chapter 3).

        x' = x - (H + damping * I)^-1 g

    With Levenberg-Marquardt (Levenberg 1944; Marquardt 1963) a step is accepted only if it lowers the objective. The
    gain is the decrease divided by the decrease predicted by the quadratic model. After an accepted step the damping is
    multiplied by max(1/3, 1 - (2 gain - 1)^3). After a rejected step it is multiplied by 2, then 4, then 8, until a
    step is accepted (Nielsen 1999). A matrix that is not positive definite is a rejection, so the step descends even if
    the Hessian is indefinite. If nothing lowers the objective, the update is 0. If the damping has passed
    `max_damping`, the next update starts with `damping` again.

    Without Levenberg-Marquardt every step is accepted. It is exact on a quadratic. For a large damping it is gradient
    descent with the learning rate 1 / damping. It may climb if the Hessian is indefinite.

    The objective must be the same at each step: the full batch, no dropout, no augmentation. `update` needs `params`
    and `value_fn`, and accepts `value`. H costs N gradients and N^2 elements, its factorization N^3 / 3.

    Args:
      damping: lambda; with Levenberg-Marquardt its first value.
      levenberg_marquardt: whether the damping is adapted and bad steps are rejected.
      max_trials: the largest number of trials in a step.
      max_damping: the largest damping that is tried.
      max_parameters: the largest number N of parameters; more raise an error.

    Raises:
      ValueError: if `damping` is above `max_damping`; from `init`, if there are too many parameters.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> def objective(x):
      ...     return jnp.sum(jnp.array([1.0, 3.0]) * x**2) / 2
      >>> tx = jaxtrain.optim.newton(damping=2.0)
      >>> @jax.jit
      ... def step(x, state):
      ...     updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
      ...     return optax.apply_updates(x, updates), state
      >>> x = jnp.array([1.0, 1.0])
      >>> state = tx.init(x)
      >>> for _ in range(3):
      ...     x, state = step(x, state)
      ...     print(jax.device_get(x).round(3))
      [0.667 0.4  ]
      [0.267 0.073]
      [0.048 0.005]
    """
    numbers = isinstance(damping, int | float) and isinstance(max_damping, int | float)
    if levenberg_marquardt and numbers and damping > max_damping:
        raise ValueError(
            f"newton: damping must not exceed max_damping={max_damping}, and damping={damping} does; lower damping"
        )

    def init(params: optax.Params) -> NewtonState:
        check_size("newton", params, max_parameters)
        wide = trees.widest(params)
        return NewtonState(jnp.asarray(damping, wide), jnp.asarray(2.0, wide))

    def update(
        updates: optax.Updates, state: NewtonState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, NewtonState]:
        value_fn, value = require_objective("newton", params, extra)
        x, unflatten = trees.ravel(params)
        g, _ = trees.ravel(updates)

        def flat(v: jax.Array) -> jax.Array:
            return value_fn(unflatten(v)).astype(x.dtype)

        hessian = jax.hessian(flat)(x)
        hessian = (hessian + hessian.T) / 2
        if not levenberg_marquardt:
            damped = hessian + cast_like(damping, x) * jnp.eye(x.size, dtype=x.dtype)
            return unflatten(-jnp.linalg.solve(damped, g)), state

        def decrease(step: jax.Array) -> jax.Array:
            # Evaluate at the rounded parameters after the update: leaves may have fewer bits than x.
            there = value_fn(jax.tree.map(jnp.add, params, unflatten(step)))
            return value.astype(x.dtype) - there.astype(x.dtype)

        begin = _Trial(jnp.zeros_like(x), state.damping, state.growth, jnp.int32(0), jnp.bool_(False))
        end = _run_trials(begin, hessian, g, decrease, max_trials, max_damping)
        # With a damping above the limit, no step would be tried again.
        damping_after = jnp.where(end.damping <= max_damping, end.damping, jnp.asarray(damping, x.dtype))
        growth = jnp.where(end.accepted, end.growth, 2)
        return unflatten(end.step), NewtonState(damping_after, growth)

    return optax.GradientTransformationExtraArgs(init, update)


class _Trial(NamedTuple):
    step: jax.Array
    damping: jax.Array
    growth: jax.Array
    tried: jax.Array
    accepted: jax.Array


def _run_trials(
    begin: _Trial,
    hessian: jax.Array,
    g: jax.Array,
    decrease: Callable[[jax.Array], jax.Array],
    max_trials: int,
    max_damping: float,
) -> _Trial:
    """Return the last trial: try steps with more and more damping until one lowers the objective."""

    def attempt(carry: _Trial) -> _Trial:
        factor = jnp.linalg.cholesky(hessian + carry.damping * jnp.eye(g.size, dtype=g.dtype))
        step = -jax.scipy.linalg.cho_solve((factor, True), g)
        promised = -(g @ step + step @ hessian @ step / 2)
        actual = decrease(step)
        accepted = jnp.isfinite(step).all() & (g @ step < 0) & (actual > 0)
        gain = actual / jnp.where(promised > 0, promised, jnp.inf)
        lower_damping = carry.damping * jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        # If the damping is 0, the first increase is to a small part of the curvature.
        least = np.finfo(g.dtype).eps * jnp.max(jnp.abs(jnp.diagonal(hessian)), initial=1)
        higher_damping = jnp.maximum(carry.damping, least) * carry.growth
        return _Trial(
            jnp.where(accepted, step, 0),
            jnp.where(accepted, lower_damping, higher_damping),
            jnp.where(accepted, 2, 2 * carry.growth),
            carry.tried + 1,
            accepted,
        )

    def should_continue(carry: _Trial) -> jax.Array:
        return ~carry.accepted & (carry.tried < max_trials) & (carry.damping <= max_damping)

    return jax.lax.while_loop(should_continue, attempt, begin)
