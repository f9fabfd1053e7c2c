"""Label smoothing as a part of the batch, where it can follow a schedule and end before the run does."""

import jax

from jaxtrain.annotations import Steps
from jaxtrain.augment.mixing.base import Mixing, ScheduledShare, Soft, at


def label_smoothing(share: ScheduledShare = 0.1, until: Steps | None = None) -> Mixing:
    """Takes `share` of each label's probability and gives it to all K classes alike.

    A loss has the same as an option of its own, `cross_entropy(label_smoothing=0.1)`; the losses in evaluation, which
    see labels as they are, then have it too.

    Args:
      share: what is taken.
      until: the step from which on nothing is.
    """

    def mix(key: jax.Array, step: jax.Array, batch: Soft) -> Soft:
        del key
        taken = at(share, step, until)
        return Soft(batch.images, (1 - taken) * batch.targets + taken / batch.targets.shape[-1])

    return mix
