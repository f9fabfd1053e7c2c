"""LeNet-5 on MNIST.

Source: LeNet-5 of LeCun et al. 1998 in its modern simplification, on 28x28 images padded to its 32x32; 0.95 % test
error is published for the original, 20 epochs without distortions. 5,000 of the 60,000 training images are
held out for validation.

Measured: test accuracy 99.13 % (seed 0). 163 s of training.
Hardware: two CPU cores, jax 0.10.2.
Command: jaxtrain train mnist_lenet5 --data-dir DIR      (DIR/mnist holds the four IDX files, plain or .gz)
"""

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
