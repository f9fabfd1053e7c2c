"""Losses: factories of functions `(logits f[N, K], labels) -> loss f[N]`, a value an example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxtrain.config.annotations import Fraction

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
        if labels.ndim == 1:
            labels = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        if label_smoothing:
            labels = optax.smooth_labels(labels, jnp.asarray(label_smoothing, logits.dtype))
        return optax.softmax_cross_entropy(logits, labels)

    return loss
