"""LeNet-5 on scikit-learn's digits."""

from jaxtrain.config import Config, DataConfig, EvaluationConfig, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="lenet5",
        data=DataConfig(dataset="digits", batch_size=64, validation="10%", resize=(32, 32), augment="pad_crop(2)"),
        optimizer=OptimizerSpec(
            "sgd",
            learning_rate=ScheduleSpec("cosine", 0.05, warmup="5%"),
            momentum=0.9,
            nesterov=True,
            weight_decay=[("kernel", 5e-4), (".*", 0)],
        ),
        train_for="40 epochs",
        evaluation=EvaluationConfig(every="2 epochs", best="loss"),
    )
