"""Adadelta on the common ground of `fashion_comparison`.

Measured, compared: docs/optimizers.md.
Command: jaxtrain train fashion_comparison_adadelta --data-dir DIR
"""

from jaxtrain.config import Config, OptimizerSpec, ScheduleSpec, load_config


def get_config() -> Config:
    """The recipe."""
    return load_config("fashion_comparison").replace(
        optimizer=OptimizerSpec("adadelta", learning_rate=ScheduleSpec("cosine", 1.0)),
    )
