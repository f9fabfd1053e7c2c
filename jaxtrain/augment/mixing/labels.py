"""Label smoothing of a batch, which can follow a schedule and end before the run does."""

import jax

from jaxtrain.annotations import Steps
from jaxtrain.augment.mixing.base import Mixing, ScheduledShare, SoftBatch, value_at_step


def label_smoothing(share: ScheduledShare = 0.1, until: Steps | None = None) -> Mixing:
    """Take `share` of each label's probability and spread it evenly over all K classes.

    The option of a loss, `cross_entropy(label_smoothing=0.1)`, does the same; but then the losses of evaluation have it
    too. Here, evaluation uses the original labels.

    Args:
      share: the share of the probability.
      until: the step at which it is switched off; None keeps it on.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.augment.mixing
      >>> from jaxtrain.augment.mixing.base import SoftBatch
      >>> batch = SoftBatch(images=jnp.zeros((1, 4, 4, 3)), targets=jnp.array([[1.0, 0.0]]))
      >>> smooth = jaxtrain.augment.mixing.label_smoothing(0.5, until=100)
      >>> [smooth(jax.random.key(0), jnp.int32(step), batch).targets.tolist() for step in (0, 100)]
      [[[0.75, 0.25]], [[1.0, 0.0]]]
    """

    def mix(key: jax.Array, step: jax.Array, batch: SoftBatch) -> SoftBatch:
        del key
        current_share = value_at_step(share, step, until)
        return SoftBatch(batch.images, (1 - current_share) * batch.targets + current_share / batch.targets.shape[-1])

    return mix
