"""Schedule-free stochastic gradient descent on the common ground of `fashion_comparison`.

Measured, compared: docs/optimizers.md.
Command: jaxtrain train fashion_comparison_schedule_free --data-dir DIR
"""

from jaxtrain.config import Config, OptimizerSpec, load_config


def get_config() -> Config:
    """The recipe."""
    return load_config("fashion_comparison").replace(
        optimizer=OptimizerSpec("schedule_free", inner=OptimizerSpec("sgd", learning_rate=1.0), learning_rate=1.0),
    )
