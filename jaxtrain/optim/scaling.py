"""The linear scaling rule: a learning rate written for one batch size, at another."""

from jaxtrain.config.annotations import LearningRate, PositiveInt


def linear_scaling(
    learning_rate: LearningRate, *, batch_size: PositiveInt, base_batch_size: PositiveInt = 256
) -> LearningRate:
    """`learning_rate * batch_size / base_batch_size` (Goyal et al. 2017, arXiv:1706.02677, section 2.1).

    Args:
      learning_rate: a number or a schedule, for a batch of `base_batch_size`.
      batch_size: examples in a step.
      base_batch_size: examples in a step of the recipe that the rate is from.

    Returns:
      A number for a number, a schedule for a schedule.
    """
    factor = batch_size / base_batch_size
    if callable(learning_rate):
        schedule = learning_rate
        return lambda count: schedule(count) * factor
    return learning_rate * factor
