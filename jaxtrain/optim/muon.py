"""Muon: the momentum of each matrix, orthogonalized."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxtrain.config.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt
from jaxtrain.optim.adam import scale_by_adam
from jaxtrain.optim.chain import chain, like, with_standard_promotion
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
    """Muon (Jordan et al. 2024): the momentum of each matrix, orthogonalized by a Newton-Schulz iteration.

    A kernel of a convolution, [H, W, I, O], is the matrix [H * W * I, O]. Everything else is updated by Adam. A matrix
    step is scaled by sqrt(max(1, outputs / inputs)). As in optax's `muon` the momentum is corrected for its bias, which
    the authors' program does not do; that matters with `nesterov` alone, since a factor is orthogonalized away.

    Args:
      learning_rate: a number or a schedule, of the matrices.
      momentum: decay of the running mean of gradients.
      nesterov: whether that looks one step ahead.
      newton_schulz_steps: iterations.
      adam_scale: learning rate of Adam's part, as a multiple of `learning_rate`.
      b1: decay of Adam's first moment.
      b2: decay of Adam's second moment.
      eps: of both parts.
      weight_decay: decoupled, multiplied by the learning rate; a number, or rules `(regex, value)` by path.
    """
    orthogonal = optax.contrib.scale_by_muon(
        ns_steps=newton_schulz_steps, beta=momentum, eps=eps, nesterov=nesterov, weight_dimension_numbers=_dimensions
    )
    matrices = chain(with_standard_promotion(orthogonal), optax.stateless(_by_shape))
    rest = chain(scale_by_adam(b1, b2, eps), optax.stateless(lambda u, _: _times(adam_scale, u)))
    rule = optax.partition({True: matrices, False: rest}, lambda params: jax.tree.map(_is_matrix, params))
    return chain(rule, add_weight_decay(weight_decay), optax.scale_by_learning_rate(learning_rate))


def _is_matrix(p: jax.Array) -> bool:
    return jnp.ndim(p) in (2, 4)


def _dimensions(matrices: Any) -> Any:
    def of(p: jax.Array) -> optax.contrib.MuonDimensionNumbers:
        return optax.contrib.MuonDimensionNumbers(reduction_axis=tuple(range(p.ndim - 1)), output_axis=p.ndim - 1)

    return jax.tree.map(of, matrices)


def _by_shape(updates: Any, _: Any) -> Any:
    return jax.tree.map(lambda u: u * max(1.0, u.shape[-1] ** 2 / max(u.size, 1)) ** 0.5, updates)


def _times(factor: Any, updates: Any) -> Any:
    return jax.tree.map(lambda u: like(factor, u) * u, updates)
