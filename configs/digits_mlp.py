"""A multilayer perceptron with dropout on scikit-learn's digits."""

from jaxtrain.config import Config, DataConfig, EvaluationConfig, ModelSpec, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model=ModelSpec("mlp", widths=[256, 256], dropout_rate=0.2),
        data=DataConfig(dataset="digits", batch_size=64, validation="10%"),
        optimizer=OptimizerSpec(
            "adamw",
            learning_rate=ScheduleSpec("cosine", 2e-3, warmup="5%"),
            weight_decay=[("kernel", 0.05), (".*", 0)],
        ),
        train_for="60 epochs",
        evaluation=EvaluationConfig(every="2 epochs", best="loss"),
    )
