"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt
from jaxtrain.optim.chain import chain
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay
from jaxtrain.optim.trees import widest


class SideState(NamedTuple):
    """State of one side of a matrix: the running mean of G G' or G' G, and a basis of its eigenvectors."""

    mean: jax.Array
    basis: jax.Array


class LeafState(NamedTuple):
    """State of one parameter.

    Attributes:
      first: the running mean of the gradient, a matrix if the parameter is one, else a vector; float32 at least.
      second: the running mean of the squared gradient in the eigenbasis.
      left: the state of the rows; an empty tuple if they are not rotated.
      right: the state of the columns; an empty tuple if they are not rotated.
    """

    first: jax.Array
    second: jax.Array
    left: SideState | tuple[()]
    right: SideState | tuple[()]


class SoapState(NamedTuple):
    """State of `soap`: a `LeafState` for each parameter, and int32[] updates made."""

    leaves: Any
    step: jax.Array


def soap(
    learning_rate: LearningRate,
    *,
    b1: Fraction = 0.95,
    b2: Fraction = 0.95,
    eps: PositiveFloat = 1e-8,
    precondition_every: PositiveInt = 10,
    max_side: PositiveInt = 10_000,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build SOAP (Vyas et al. 2025, algorithms 3 and 4, arXiv:2409.11321): Adam in the eigenbasis of Shampoo.

    For each matrix with the gradient G, and V kept in the rotated coordinates:

        L = b2 * L + (1 - b2) * G G',    R = b2 * R + (1 - b2) * G' G
        M = b1 * M + (1 - b1) * G,       V = b2 * V + (1 - b2) * (Q_L' G Q_R)^2
        W = W - learning_rate * (Q_L (Q_L' M_hat Q_R / (sqrt(V_hat) + eps)) Q_R' + weight_decay * W)

    Q_L and Q_R are bases of the eigenvectors of L and R. They begin as the identity and are computed exactly after the
    first step. After every `precondition_every` further steps, one step of power iteration and a QR decomposition
    refresh them. V is kept when they change. The kernel of a convolution, [H, W, I, O], is the matrix [H * W * I, O].
    Adam updates vectors.

    The authors' program makes no step with the first gradient. In its own eigenbasis that gradient has one nonzero
    element per row, and the other elements of the step would be rounding errors. Here the first step is Adam's.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      b1: the decay of the first moment M.
      b2: the decay of the second moment V and of the products L and R.
      eps: a small number, added outside the root.
      precondition_every: the number of steps between two refreshes of the bases.
      max_side: the longest side that is rotated; each rotated side keeps two square matrices of its length.
      weight_decay: decoupled weight decay, multiplied by the learning rate; a number, or rules `(regex, value)` by
        path.

    Example:
      Three steps on (x_1^2 + 3 x_2^2) / 2:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.soap(0.1)
      >>> x = jnp.array([[1.0, 1.0]])
      >>> state, update = tx.init(x), jax.jit(tx.update)
      >>> for _ in range(3):
      ...     updates, state = update(jnp.array([[1.0, 3.0]]) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [[0.9 0.9]]
      [[0.856 0.768]]
      [[0.815 0.651]]
    """

    def side(size: int, dtype: Any) -> SideState | tuple[()]:
        return SideState(jnp.zeros((size, size), dtype), jnp.eye(size, dtype=dtype)) if size <= max_side else ()

    def init_leaf(p: jax.Array) -> LeafState:
        shape, dtype = _matrix_shape(p), widest(p)
        left, right = (side(size, dtype) for size in shape) if len(shape) == 2 else ((), ())
        return LeafState(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), left, right)

    def init(params: optax.Params) -> SoapState:
        return SoapState(jax.tree.map(init_leaf, params), jnp.int32(0))

    def update_leaf(g: jax.Array, state: LeafState, step: jax.Array) -> tuple[jax.Array, LeafState]:
        gradient = g.reshape(state.first.shape).astype(state.first.dtype)
        first = b1 * state.first + (1 - b1) * gradient
        second = b2 * state.second + (1 - b2) * jnp.square(_rotate(gradient, state.left, state.right))
        t = (step + 1).astype(first.dtype)
        rotated_step = _rotate(first, state.left, state.right) / (1 - b1**t) / (jnp.sqrt(second / (1 - b2**t)) + eps)
        update = _rotate(rotated_step, state.left, state.right, back=True)
        left = _update_side(state.left, gradient, b2, step, precondition_every)
        right = _update_side(state.right, gradient.T, b2, step, precondition_every)
        return update.reshape(jnp.shape(g)).astype(g.dtype), LeafState(first, second, left, right)

    def update(updates: optax.Updates, state: SoapState, params: optax.Params | None = None) -> Any:
        del params
        pairs = jax.tree.map(lambda g, s: update_leaf(g, s, state.step), updates, state.leaves)
        leaves = jax.tree.map(lambda _, pair: pair[1], updates, pairs)
        return jax.tree.map(lambda _, pair: pair[0], updates, pairs), SoapState(leaves, state.step + 1)

    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(optax.GradientTransformation(init, update), add_weight_decay(weight_decay), rate)


def _matrix_shape(p: jax.Array) -> tuple[int, ...]:
    """Return [rows, columns] for a matrix that may be rotated, [elements] for vectors and empty arrays."""
    size = jnp.size(p)
    return (size // p.shape[-1], p.shape[-1]) if jnp.ndim(p) > 1 and size else (size,)


def _update_side(side: Any, rows: jax.Array, decay: float, step: jax.Array, every: int) -> Any:
    """Return the side's state after a gradient: the updated mean, and a refreshed basis when one is due."""
    if not side:
        return side
    mean = decay * side.mean + (1 - decay) * (rows @ rows.T)
    # Largest eigenvalue first: power iteration tends to this order, and then does not swap eigenvectors.
    exact = lambda: jnp.linalg.eigh(mean)[1][:, ::-1]  # noqa: E731
    refreshed = lambda: jnp.linalg.qr(mean @ side.basis)[0]  # noqa: E731
    which = jnp.where(step == 0, 0, jnp.where(step % every == 0, 1, 2))
    return SideState(mean, jax.lax.switch(which, [exact, refreshed, lambda: side.basis]))


def _rotate(matrix: jax.Array, left: Any, right: Any, *, back: bool = False) -> jax.Array:
    """Return Q_L' M Q_R, or Q_L M Q_R' with `back`."""
    if left:
        matrix = (left.basis if back else left.basis.T) @ matrix
    if right:
        matrix = matrix @ (right.basis.T if back else right.basis)
    return matrix
