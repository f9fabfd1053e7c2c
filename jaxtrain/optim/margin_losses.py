"""Losses that ask for a margin or for a template, instead of a probability: factories like those of `losses`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.config.annotations import PositiveFloat
from jaxtrain.optim.losses import Loss


def hinge(margin: PositiveFloat = 1.0) -> Loss:
    """Multiclass support vector machine: the sum over the wrong classes j of max(0, s_j - s_y + margin).

    Weston & Watkins 1999. torch's `MultiMarginLoss` divides it by K, and optax's `multiclass_hinge_loss` takes the
    largest term alone (Crammer & Singer 2001).

    Args:
      margin: by which the right class should lead.

    Returns:
      A function of scores f[N, K] and class numbers int[N].
    """
    return lambda logits, labels: _violations(logits, labels, margin).sum(axis=-1)


def squared_hinge(margin: PositiveFloat = 1.0) -> Loss:
    """The sum over the wrong classes j of max(0, s_j - s_y + margin)^2 (Tang 2013, for one against the rest).

    Args:
      margin: by which the right class should lead.

    Returns:
      A function of scores f[N, K] and class numbers int[N].
    """
    return lambda logits, labels: jnp.square(_violations(logits, labels, margin)).sum(axis=-1)


def template_mse(templates: tuple[tuple[float, ...], ...] | None = None, *, on: float = 1.0, off: float = -1.0) -> Loss:
    """Sum of squared differences between the outputs and the template of the class (LeCun et al. 1998, equation 8).

    Args:
      templates: a row of outputs for each class; None for `on` at the class's own output and `off` at the others.
      on: of the default templates.
      off: of the default templates.

    Returns:
      A function of outputs f[N, D] and class numbers int[N].
    """
    if templates is not None and len({len(row) for row in templates}) != 1:
        raise ValueError("templates must have one length, that of the model's outputs")

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        _check_class_numbers(labels)
        outputs = logits.shape[-1]
        rows = np.where(np.eye(outputs, dtype=bool), on, off) if templates is None else np.asarray(templates)
        if rows.shape[-1] != outputs:
            raise ValueError(f"the templates have {rows.shape[-1]} values each, and the model has {outputs} outputs")
        return jnp.square(logits - jnp.asarray(rows, logits.dtype)[labels]).sum(axis=-1)

    return loss


def _violations(scores: jax.Array, labels: jax.Array, margin: float) -> jax.Array:
    """f[N, K], max(0, s_j - s_y + margin), and 0 for the class itself."""
    _check_class_numbers(labels)
    own = jnp.take_along_axis(scores, labels[:, None], axis=-1)
    wrong = jnp.arange(scores.shape[-1], dtype=labels.dtype)[None] != labels[:, None]
    return jnp.where(wrong, jnp.maximum(scores - own + margin, 0), 0)


def _check_class_numbers(labels: jax.Array) -> None:
    if labels.ndim != 1:
        raise ValueError(
            "this loss takes class numbers; labels that are probabilities, as mixing makes, have no margin"
        )
