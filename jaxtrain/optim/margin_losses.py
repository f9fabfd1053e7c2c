"""Losses with a margin or a template instead of a probability: factories like those in `losses`.

They take class indices int[N]. Labels that are probabilities, as from mixed images, raise `ValueError`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import PositiveFloat
from jaxtrain.optim.losses import Loss


def hinge(margin: PositiveFloat = 1.0) -> Loss:
    """Build the multiclass hinge loss: the sum over the wrong classes j of max(0, s_j - s_y + margin).

    The multiclass support vector machine of Weston & Watkins 1999. For equal scores it is (K - 1) margin. torch's
    `MultiMarginLoss` is 1/K of it. optax's `multiclass_hinge_loss` is the largest term only (Crammer & Singer 2001).

    Args:
      margin: the lead that the score of the right class should have.

    Returns:
      A function of scores f[N, K] and class indices int[N] to losses f[N].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import margin_losses
      >>> scores, labels = jnp.array([[2.0, 1.5, 0.0], [2.0, 1.5, 0.0]]), jnp.array([0, 1])
      >>> jax.device_get(margin_losses.hinge()(scores, labels)).round(3)
      array([0.5, 1.5], dtype=float32)
    """
    return lambda scores, labels: _violations(scores, labels, margin).sum(axis=-1)


def squared_hinge(margin: PositiveFloat = 1.0) -> Loss:
    """Build the squared multiclass hinge loss: the sum over the wrong classes j of max(0, s_j - s_y + margin)^2.

    It has a gradient everywhere. The square is that of Tang 2013 (arXiv:1306.0239), who applies it to each class
    against the rest; the sum is that of `hinge`. torch's `MultiMarginLoss(p=2)` is 1/K of it.

    Args:
      margin: the lead that the score of the right class should have.

    Returns:
      A function of scores f[N, K] and class indices int[N] to losses f[N].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import margin_losses
      >>> scores, labels = jnp.array([[2.0, 1.5, 0.0], [2.0, 1.5, 0.0]]), jnp.array([0, 1])
      >>> jax.device_get(margin_losses.squared_hinge()(scores, labels)).round(3)
      array([0.25, 2.25], dtype=float32)
    """
    return lambda scores, labels: jnp.square(_violations(scores, labels, margin)).sum(axis=-1)


def template_mse(templates: tuple[tuple[float, ...], ...] | None = None, *, on: float = 1.0, off: float = -1.0) -> Loss:
    """Build the sum of squared differences between the outputs and the template of the class, without a factor 1/2.

    LeCun et al. 1998, equations 7 and 8. Accuracy takes the largest output, which agrees with the default templates.

    Args:
      templates: a row of D outputs for each class; None for `on` at the output of the class and `off` at the others.
      on: the value of the default templates at the output of the class.
      off: the value of the default templates at the other outputs.

    Returns:
      A function of outputs f[N, D] and class indices int[N] to losses f[N]; NaN for a class without a template.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxtrain.optim import margin_losses
      >>> outputs, labels = jnp.array([[1.0, -1.0, 0.0], [1.0, -1.0, 0.0]]), jnp.array([0, 1])
      >>> jax.device_get(margin_losses.template_mse()(outputs, labels)).round(3)
      array([1., 9.], dtype=float32)
    """
    if templates is not None and len({len(row) for row in templates}) != 1:
        raise ValueError(
            f"templates must be rows of equal length, one for each class; these have lengths "
            f"{[len(row) for row in templates]}"
        )

    def loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        _check_class_indices(labels)
        size = outputs.shape[-1]
        rows = np.where(np.eye(size, dtype=bool), on, off) if templates is None else np.asarray(templates)
        if rows.shape[-1] != size:
            raise ValueError(
                f"the templates have {rows.shape[-1]} values each and the model has {size} outputs; "
                "give a value for each output"
            )
        template = jnp.asarray(rows, outputs.dtype).at[labels].get(mode="fill", fill_value=np.nan)
        return jnp.square(outputs - template).sum(axis=-1)

    return loss


def _violations(scores: jax.Array, labels: jax.Array, margin: float) -> jax.Array:
    """Return max(0, s_j - s_y + margin), f[N, K], with 0 for the class itself; as in torch, the kink has gradient 0."""
    _check_class_indices(labels)
    # one_hot counts the classes in the dtype of the labels, and uint8 would overflow after 255
    own = jax.nn.one_hot(labels.astype(jnp.int32), scores.shape[-1], dtype=bool)
    score = jnp.where(own, scores, 0).sum(axis=-1, keepdims=True)
    return jnp.where(own, 0, jax.nn.relu(scores - score + margin))


def _check_class_indices(labels: jax.Array) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f"losses with margins or templates need class indices, and the labels are probabilities of shape "
            f"{labels.shape}; pass class indices int[N], or use a loss such as cross_entropy"
        )
