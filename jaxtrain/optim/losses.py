"""Losses: factories of functions `(logits f[N, K], labels) -> loss f[N]`, a value an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction, NonNegativeFloat, Probability

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
    """Sigmoid cross-entropy of each class against the rest, in nats, summed over the K classes.

    torch's `BCEWithLogitsLoss` takes the mean over the classes.

    Args:
      label_smoothing: weight of the uniform distribution that is mixed into the labels.

    Returns:
      A function of logits [N, K] and either class numbers int[N] or probabilities f[N, K].
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, _targets(logits, labels, label_smoothing)).sum(axis=-1)

    return loss


def focal(gamma: NonNegativeFloat = 2.0, *, alpha: Probability | None = None) -> Loss:
    """Softmax cross-entropy times (1 - p)^gamma, p the probability of the class (Lin et al. 2017, equations 4 and 5).

    Args:
      gamma: 0 is cross-entropy.
      alpha: a factor of the whole, the same for each class; None for 1.

    Returns:
      A function of logits [N, K] and either class numbers int[N] or probabilities f[N, K].
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(logits)
        terms = -logs * _targets(logits, labels, 0.0)
        if gamma:
            # exactly 0 has no finite gradient of its power below 1
            terms *= jnp.maximum(-jnp.expm1(logs), jnp.finfo(logits.dtype).tiny) ** gamma
        total = terms.sum(axis=-1)
        return total if alpha is None else alpha * total

    return loss


def _targets(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """Probabilities f[N, K] from class numbers or probabilities, smoothed."""
    if labels.ndim == 1:
        labels = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        labels = optax.smooth_labels(labels, jnp.asarray(label_smoothing, logits.dtype))
    return labels
