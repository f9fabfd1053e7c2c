"""Losses: factories of functions `(logits f[N, K], labels) -> loss f[N]`, one value per example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, NonNegativeFloat, Probability

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(label_smoothing: Fraction = 0.0) -> Loss:
    """Build the softmax cross-entropy in nats; it is log(K) for equal logits.

    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567.

    Args:
      label_smoothing: the weight of the uniform distribution that is mixed into the labels.

    Returns:
      A function of logits f[N, K] and either class indices int[N] or probabilities f[N, K] to losses f[N].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import losses
      >>> loss = losses.cross_entropy(label_smoothing=0.1)
      >>> logits, labels = jnp.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]), jnp.array([0, 1])
      >>> jax.device_get(loss(logits, labels)).round(3)
      array([0.373, 2.173], dtype=float32)
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        if labels.ndim == 1 and not label_smoothing:
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return optax.softmax_cross_entropy(logits, _targets(logits, labels, label_smoothing))

    return loss


def binary_cross_entropy(label_smoothing: Fraction = 0.0) -> Loss:
    """Build the sigmoid cross-entropy of each class against the rest, summed over the classes, in nats.

    For targets y it is -sum_k (y_k log sigmoid(x_k) + (1 - y_k) log sigmoid(-x_k)), which is K log(2) for logits of 0.
    torch's `BCEWithLogitsLoss` takes the mean over the classes, which is 1/K of it.

    Args:
      label_smoothing: the weight of the uniform distribution that is mixed into the labels; a wrong class has the
        target `label_smoothing / K` (Wightman et al. 2021, arXiv:2110.00476).

    Returns:
      A function of logits f[N, K] and either class indices int[N] or probabilities f[N, K] to losses f[N]. The
      probabilities need not add up to 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import losses
      >>> loss = losses.binary_cross_entropy()
      >>> logits, labels = jnp.array([[2.0, -2.0, -2.0], [2.0, -2.0, -2.0]]), jnp.array([0, 1])
      >>> jax.device_get(loss(logits, labels)).round(3)
      array([0.381, 4.381], dtype=float32)
    """

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits, _targets(logits, labels, label_smoothing)).sum(axis=-1)

    return loss


def focal(gamma: NonNegativeFloat = 2.0, *, alpha: Probability | None = None) -> Loss:
    """Build the softmax focal loss: -alpha (1 - p)^gamma log p in nats, with p the probability of the class.

    Lin et al. 2017, arXiv:1708.02002, equations 4 and 5, for K classes. It is not convex in the logits. If the labels
    are probabilities, they weight the terms of the classes.

    Args:
      gamma: the power that reduces the weight of examples that are classified well; 0 gives cross-entropy.
      alpha: the factor of the loss, the same for each class; None for 1. (The paper's alpha weights objects against
        background, and there is no background here.)

    Returns:
      A function of logits f[N, K] and either class indices int[N] or probabilities f[N, K] to losses f[N].

    Example:
      The first example is classified well and hardly counts:

      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import losses
      >>> logits, labels = jnp.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]), jnp.array([0, 1])
      >>> for gamma in (0.0, 2.0):
      ...     print(jax.device_get(losses.focal(gamma)(logits, labels)).round(3))
      [0.24 2.24]
      [0.011 1.788]
    """
    plain = cross_entropy()

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        if gamma == 0:
            return plain(logits, labels)
        log_p, log_rest = _log_probabilities(logits)
        return -(_targets(logits, labels, 0.0) * jnp.exp(gamma * log_rest) * log_p).sum(axis=-1)

    return loss if alpha is None else lambda logits, labels: alpha * loss(logits, labels)


def _log_probabilities(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return log p and log(1 - p) of the softmax, f[N, K], each to full precision, with finite derivatives.

    If one class leads by far, its p is 1 in floating point, and 1 - p must not be computed from it. So both logarithms
    are computed as sigmoids of the lead over all other classes. The p of a class that does not lead is at most 1/2.
    """
    is_leading = jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(logits, axis=-1, keepdims=True, where=~is_leading)
    log_p = jax.nn.log_softmax(logits)
    p = jnp.where(is_leading, 0, jnp.exp(log_p))
    return (
        jnp.where(is_leading, jax.nn.log_sigmoid(logits - others), log_p),
        jnp.where(is_leading, jax.nn.log_sigmoid(others - logits), jnp.log1p(-p)),
    )


def _targets(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """Return probabilities f[N, K] from class indices or probabilities, smoothed."""
    if labels.ndim == 1:
        # one_hot counts the classes in the dtype of the labels, and uint8 would overflow after 255
        labels = jax.nn.one_hot(labels.astype(jnp.int32), logits.shape[-1], dtype=logits.dtype)
    if label_smoothing:
        labels = optax.smooth_labels(labels, jnp.asarray(label_smoothing, logits.dtype))
    return labels
