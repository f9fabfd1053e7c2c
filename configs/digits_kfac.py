"""A multilayer perceptron on scikit-learn's digits by K-FAC.

Source: Martens & Grosse 2015 (arXiv:1503.05671); widths and rates are its own.

Measured: TO BE MEASURED
Command: jaxtrain train digits_kfac
"""

from jaxtrain.config import Config, DataConfig, EvaluationConfig, ModelSpec, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model=ModelSpec("mlp", widths=[64, 32]),
        data=DataConfig(dataset="digits", batch_size=128, validation="10%"),
        optimizer=OptimizerSpec("kfac", learning_rate=ScheduleSpec("cosine", 0.1)),
        train_for="20 epochs",
        evaluation=EvaluationConfig(every="2 epochs", best="loss"),
    )
