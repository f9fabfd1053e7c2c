"""LeNet-5 on Fashion-MNIST.

Source: LeNet-5 of LeCun et al. 1998 in its modern simplification, on the images of Xiao et al. 2017 (arXiv:1708.07747)
padded to 32x32, with reflections and shifts by up to 2 pixels. 5,000 of the 60,000 training images are held
out for validation.

Measured: test accuracy 91.32 % (seed 0). 378 s of training, part of it beside other work on the machine.
Hardware: two CPU cores, jax 0.10.2.
Command: jaxtrain train fashion_mnist_lenet5 --data-dir DIR      (DIR/fashion_mnist holds the four IDX files)
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
        data=DataConfig(
            dataset="fashion_mnist", batch_size=128, validation="5000 examples", pad=2, augment="flip_lr|pad_crop(2)"
        ),
        optimizer=OptimizerSpec(
            "sgd",
            learning_rate=ScheduleSpec("cosine", 0.05, warmup="5%"),
            momentum=0.9,
            nesterov=True,
            weight_decay=[("kernel", 5e-4), (".*", 0)],
        ),
        train_for="20 epochs",
        evaluation=EvaluationConfig(best="loss"),
        checkpoint=CheckpointConfig(every="0.5 epochs"),
        logging=LoggingConfig(every="100 steps"),
    )
