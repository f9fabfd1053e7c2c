"""Losses that ask for a margin or for a template instead of a probability: factories like those of `losses`.

They take class numbers int[N]. Labels that are probabilities, as mixed images have, are a `ValueError`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.annotations import PositiveFloat
from jaxtrain.optim.losses import Loss


def hinge(margin: PositiveFloat = 1.0) -> Loss:
    """Multiclass support vector machine: the sum over the wrong classes j of max(0, s_j - s_y + margin).

    Weston & Watkins 1999; (K - 1) margin for equal scores. torch's `MultiMarginLoss` is a K-th of it, and optax's
    `multiclass_hinge_loss` is the largest term alone (Crammer & Singer 2001).

    Args:
      margin: by which the score of the right class should lead.

    Returns:
      A function of scores f[N, K] and class numbers int[N].
    """
    return lambda scores, labels: _violations(scores, labels, margin).sum(axis=-1)


def squared_hinge(margin: PositiveFloat = 1.0) -> Loss:
    """The sum over the wrong classes j of max(0, s_j - s_y + margin)^2, which has a gradient everywhere.

    The square is that of Tang 2013, who applies it to each class against the rest; the sum is that of `hinge`. torch's
    `MultiMarginLoss(p=2)` is a K-th of it.

    Args:
      margin: by which the score of the right class should lead.

    Returns:
      A function of scores f[N, K] and class numbers int[N].
    """
    return lambda scores, labels: jnp.square(_violations(scores, labels, margin)).sum(axis=-1)


def template_mse(templates: tuple[tuple[float, ...], ...] | None = None, *, on: float = 1.0, off: float = -1.0) -> Loss:
    """Sum of squared differences between the outputs and the template of the class, without a half.

    LeCun et al. 1998, equations 7 and 8. Accuracy goes by the largest output, which fits the templates by default.

    Args:
      templates: a row of D outputs for each class; None for `on` at the output of the class and `off` at the others.
      on: of the templates by default.
      off: of the templates by default.

    Returns:
      A function of outputs f[N, D] and class numbers int[N]; NaN for a class that has no template.
    """
    if templates is not None and len({len(row) for row in templates}) != 1:
        raise ValueError(
            f"templates are rows of one length, one for each class, and these have lengths "
            f"{[len(row) for row in templates]}"
        )

    def loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        _check_class_numbers(labels)
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
    """f[N, K], max(0, s_j - s_y + margin), and 0 for the class itself; like torch's, without gradient at the kink."""
    _check_class_numbers(labels)
    # bytes would count the classes, and begin anew after 255
    own = jax.nn.one_hot(labels.astype(jnp.int32), scores.shape[-1], dtype=bool)
    score = jnp.where(own, scores, 0).sum(axis=-1, keepdims=True)
    return jnp.where(own, 0, jax.nn.relu(scores - score + margin))


def _check_class_numbers(labels: jax.Array) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f"margins and templates belong to classes, and the labels are probabilities of shape {labels.shape}; "
            "give class numbers, or a loss such as cross_entropy"
        )
