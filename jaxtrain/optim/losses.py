"""Losses: factories of functions `(logits f[N, K], labels) -> loss f[N]`, a value an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, NonNegativeFloat, Probability

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(label_smoothing: Fraction = 0.0) -> Loss:
    """Softmax cross-entropy in nats; log(K) for equal logits.

    Args:
      label_smoothing: weight of the uniform distribution that is mixed into the labels.

    Returns:
      A function of logits [N, K] and either class numbers int[N] or probabilities f[N, K].
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        if labels.ndim == 1 and not label_smoothing:
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return optax.softmax_cross_entropy(logits, _targets(logits, labels, label_smoothing))

    return loss


def binary_cross_entropy(label_smoothing: Fraction = 0.0) -> Loss:
    """Sigmoid cross-entropy of each class against the rest, in nats, summed over the classes; K log(2) for logits of 0.

    For targets y it is -sum_k (y_k log sigmoid(x_k) + (1 - y_k) log sigmoid(-x_k)); torch's `BCEWithLogitsLoss` takes
    the mean over the classes, a K-th of it.

    Args:
      label_smoothing: weight of the uniform distribution that is mixed into the labels, so that a wrong class has the
        target `label_smoothing / K` (Wightman et al. 2021).

    Returns:
      A function of logits [N, K] and either class numbers int[N] or probabilities f[N, K], which may add up to
      anything.
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, _targets(logits, labels, label_smoothing)).sum(axis=-1)

    return loss


def focal(gamma: NonNegativeFloat = 2.0, *, alpha: Probability | None = None) -> Loss:
    """Softmax focal loss: -alpha (1 - p)^gamma log p in nats, with p the probability of the class.

    Lin et al. 2017, equations 4 and 5, for K classes. It is not convex in the logits. Probabilities as labels weigh
    the terms of the classes.

    Args:
      gamma: how much less the examples count that are classified well; 0 gives cross-entropy.
      alpha: factor of the loss, the same for each class; None for 1. (The paper's weighs objects against background,
        and there is no background here.)

    Returns:
      A function of logits [N, K] and either class numbers int[N] or probabilities f[N, K].
    """
    plain = cross_entropy()

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        if gamma == 0:
            return plain(logits, labels)
        log_p, log_rest = _log_probabilities(logits)
        return -(_targets(logits, labels, 0.0) * jnp.exp(gamma * log_rest) * log_p).sum(axis=-1)

    return loss if alpha is None else lambda logits, labels: alpha * loss(logits, labels)


def _log_probabilities(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log p and log(1 - p) of the softmax, f[N, K], each to full precision, with finite derivatives.

    Where a class leads by far, its p is 1 in floating point and 1 - p must not come from it: both logarithms are
    sigmoids of the lead over the others together. The p of a class that does not lead is 1/2 at the most.
    """
    leads = jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(logits, axis=-1, keepdims=True, where=~leads)
    log_p = jax.nn.log_softmax(logits)
    p = jnp.where(leads, 0, jnp.exp(log_p))
    return (
        jnp.where(leads, jax.nn.log_sigmoid(logits - others), log_p),
        jnp.where(leads, jax.nn.log_sigmoid(others - logits), jnp.log1p(-p)),
    )


def _targets(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """Probabilities f[N, K] from class numbers or probabilities, smoothed."""
    if labels.ndim == 1:
        # bytes would count the classes, and begin anew after 255
        labels = jax.nn.one_hot(labels.astype(jnp.int32), logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        labels = optax.smooth_labels(labels, jnp.asarray(label_smoothing, logits.dtype))
    return labels
