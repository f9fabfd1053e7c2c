"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt
from jaxtrain.optim.chain import chain
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay
from jaxtrain.optim.trees import widest


class SideState(NamedTuple):
    """What SOAP knows of one side of a matrix: the running mean of G G' or G' G, and a basis of its eigenvectors."""

    mean: jax.Array
    basis: jax.Array


class LeafState(NamedTuple):
    """State of a parameter.

    Attributes:
      first: running mean of the gradient, as a matrix where it is one, else as a vector; float32 at least.
      second: running mean of its squares in the eigenbasis.
      left: of the rows; empty where they are not rotated.
      right: of the columns; empty where they are not rotated.
    """

    first: jax.Array
    second: jax.Array
    left: SideState | tuple[()]
    right: SideState | tuple[()]


class SoapState(NamedTuple):
    """A `LeafState` for each parameter, and int32[] updates made."""

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
    """SOAP (Vyas et al. 2025, algorithms 3 and 4): Adam in the coordinates Q_L' G Q_R of each matrix G.

    M and V are Adam's moments, V in those coordinates; the step Q_L (Q_L' M_hat Q_R / (sqrt(V_hat) + eps)) Q_R' is
    rotated back. The means of G G' and G' G decay with b2. Q_L and Q_R are bases of their eigenvectors: at first no
    rotation, after the first step exact, and after every `precondition_every` steps more refreshed by one step of power
    iteration and a QR decomposition. V is kept when they change. A kernel of a convolution, [H, W, I, O], is the matrix
    [H * W * I, O]; vectors are updated by Adam.

    The authors' program makes no step of the first gradient, since in its own eigenbasis it has but one nonzero element
    a row, and the others would be steps along rounding errors. Here the first step is Adam's.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment and of the products.
      eps: added outside the root.
      precondition_every: steps between two refreshes of the bases.
      max_side: a side longer than this is not rotated; each rotated one keeps two square matrices of its length.
      weight_decay: decoupled, multiplied by the learning rate; a number, or rules `(regex, value)` by path.
    """

    def side(size: int, dtype: Any) -> SideState | tuple[()]:
        return SideState(jnp.zeros((size, size), dtype), jnp.eye(size, dtype=dtype)) if size <= max_side else ()

    def begin(p: jax.Array) -> LeafState:
        shape, dtype = _matrix_shape(p), widest(p)
        left, right = (side(size, dtype) for size in shape) if len(shape) == 2 else ((), ())
        return LeafState(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), left, right)

    def init(params: optax.Params) -> SoapState:
        return SoapState(jax.tree.map(begin, params), jnp.int32(0))

    def one(g: jax.Array, state: LeafState, step: jax.Array) -> tuple[jax.Array, LeafState]:
        gradient = g.reshape(state.first.shape).astype(state.first.dtype)
        first = b1 * state.first + (1 - b1) * gradient
        second = b2 * state.second + (1 - b2) * jnp.square(_rotate(gradient, state.left, state.right))
        t = (step + 1).astype(first.dtype)
        scaled = _rotate(first, state.left, state.right) / (1 - b1**t) / (jnp.sqrt(second / (1 - b2**t)) + eps)
        update = _rotate(scaled, state.left, state.right, back=True)
        left = _learn(state.left, gradient, b2, step, precondition_every)
        right = _learn(state.right, gradient.T, b2, step, precondition_every)
        return update.reshape(jnp.shape(g)).astype(g.dtype), LeafState(first, second, left, right)

    def update(updates: optax.Updates, state: SoapState, params: optax.Params | None = None) -> Any:
        del params
        done = jax.tree.map(lambda g, s: one(g, s, state.step), updates, state.leaves)
        leaves = jax.tree.map(lambda _, pair: pair[1], updates, done)
        return jax.tree.map(lambda _, pair: pair[0], updates, done), SoapState(leaves, state.step + 1)

    rate = optax.scale_by_learning_rate(learning_rate)
    return chain(optax.GradientTransformation(init, update), add_weight_decay(weight_decay), rate)


def _matrix_shape(p: jax.Array) -> tuple[int, ...]:
    """[rows, columns] for what is rotated; what is no matrix, or empty, keeps its elements in a row."""
    size = jnp.size(p)
    return (size // p.shape[-1], p.shape[-1]) if jnp.ndim(p) > 1 and size else (size,)


def _learn(side: Any, rows: jax.Array, decay: float, step: jax.Array, every: int) -> Any:
    """The side after a gradient: its products in the mean, and, when it is time, another basis."""
    if not side:
        return side
    mean = decay * side.mean + (1 - decay) * (rows @ rows.T)
    # Greatest first: the order that power iteration tends to, in which it leaves eigenvectors where they are.
    exact = lambda: jnp.linalg.eigh(mean)[1][:, ::-1]  # noqa: E731
    refreshed = lambda: jnp.linalg.qr(mean @ side.basis)[0]  # noqa: E731
    which = jnp.where(step == 0, 0, jnp.where(step % every == 0, 1, 2))
    return SideState(mean, jax.lax.switch(which, [exact, refreshed, lambda: side.basis]))


def _rotate(matrix: jax.Array, left: Any, right: Any, *, back: bool = False) -> jax.Array:
    """Q_L' M Q_R, or back Q_L M Q_R'."""
    if left:
        matrix = (left.basis if back else left.basis.T) @ matrix
    if right:
        matrix = matrix @ (right.basis.T if back else right.basis)
    return matrix
