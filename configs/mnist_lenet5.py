"""LeNet-5 on MNIST."""

from jaxtrain.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    OptimizerSpec,
    ScheduleSpec,
)


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="lenet5",
        data=DataConfig(dataset="mnist", batch_size=128, validation="5000 examples", pad=2),
        optimizer=OptimizerSpec(
            "sgd",
            learning_rate=ScheduleSpec("cosine", 0.05, warmup="5%"),
            momentum=0.9,
            nesterov=True,
            weight_decay=[("kernel", 5e-4), (".*", 0)],
        ),
        train_for="12 epochs",
        evaluation=EvaluationConfig(best="loss"),
        checkpoint=CheckpointConfig(every="0.5 epochs"),
        logging=LoggingConfig(every="100 steps"),
    )
