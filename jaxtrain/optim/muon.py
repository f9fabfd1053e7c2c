"""Muon: steps along the orthogonalized momentum of each matrix."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt
from jaxtrain.optim.adam import scale_by_adam
from jaxtrain.optim.chain import cast_like, chain, with_standard_promotion
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay


def muon(
    learning_rate: LearningRate,
    *,
    momentum: Fraction = 0.95,
    nesterov: bool = True,
    newton_schulz_steps: PositiveInt = 5,
    adam_scale: PositiveFloat = 0.1,
    b1: Fraction = 0.9,
    b2: Fraction = 0.999,
    eps: PositiveFloat = 1e-8,
    weight_decay: WeightDecay = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Build Muon (Jordan et al. 2024): orthogonalized momentum for matrices, Adam for everything else.

    For each matrix W with the gradient G:

        M = momentum * M + (1 - momentum) * G
        O = orthogonalize(M)                     by `newton_schulz_steps` Newton-Schulz iterations
        W = W - learning_rate * (sqrt(max(1, outputs / inputs)) * O + weight_decay * W)

    The kernel of a convolution, [H, W, I, O], is the matrix [H * W * I, O]. As in optax's `muon`, the momentum is
    bias-corrected. The authors' program does not do that. It matters with `nesterov` only, since orthogonalization
    removes a factor.

    Args:
      learning_rate: the learning rate of the matrices, a number or a schedule `step -> number`.
      momentum: the decay of the running mean of gradients.
      nesterov: whether the momentum looks one step ahead.
      newton_schulz_steps: the number of Newton-Schulz iterations.
      adam_scale: the learning rate of Adam's part, as a multiple of `learning_rate`.
      b1: the decay of Adam's first moment.
      b2: the decay of Adam's second moment.
      eps: a small number that keeps quotients finite, in both parts.
      weight_decay: decoupled weight decay, multiplied by the learning rate; a number, or rules `(regex, value)` by
        path.

    Example:
      One step on a 2 x 2 matrix; its singular values, 0.113 and 0.075, lie near the learning rate:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> tx = jaxtrain.optim.muon(0.1)
      >>> x = jnp.eye(2)
      >>> state, update = tx.init(x), jax.jit(tx.update)
      >>> for _ in range(1):
      ...     updates, state = update(jnp.array([[1.0, 3.0]] * 2) * x, state, x)
      ...     x = optax.apply_updates(x, updates)
      ...     print(jax.device_get(x).round(3))
      [[0.887 0.   ]
       [0.    0.925]]
    """
    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=newton_schulz_steps, beta=momentum, eps=eps, nesterov=nesterov, weight_dimension_numbers=_dimensions
    )
    matrices = chain(with_standard_promotion(orthogonal), optax.stateless(_scale_by_shape))
    rest = chain(scale_by_adam(b1, b2, eps), optax.stateless(lambda u, _: _scale(adam_scale, u)))
    transform = optax.partition({True: matrices, False: rest}, lambda params: jax.tree.map(_is_matrix, params))
    return chain(transform, add_weight_decay(weight_decay), optax.scale_by_learning_rate(learning_rate))


def _is_matrix(p: jax.Array) -> bool:
    return jnp.ndim(p) in (2, 4)


def _dimensions(matrices: Any) -> Any:
    def dimension_numbers(p: jax.Array) -> optax.contrib.MuonDimensionNumbers:
        return optax.contrib.MuonDimensionNumbers(reduction_axis=tuple(range(p.ndim - 1)), output_axis=p.ndim - 1)

    return jax.tree.map(dimension_numbers, matrices)


def _scale_by_shape(updates: Any, _: Any) -> Any:
    return jax.tree.map(lambda u: u * max(1.0, u.shape[-1] ** 2 / max(u.size, 1)) ** 0.5, updates)


def _scale(factor: Any, updates: Any) -> Any:
    return jax.tree.map(lambda u: cast_like(factor, u) * u, updates)
