"""ResNet-18 on a folder of photographs of five kinds of flowers, from nothing.

Source: of its own; the net is that of He et al. 2015. The photographs are 200 a class to train on and 100 to test,
from TensorFlow's flower_photos; any folder of images by class will do: set data.dataset.subdirectory.

Measured in part: test accuracy 72.40 % after 12 of 30 epochs, docs/results.md.
Command: jaxtrain train flowers_resnet18 --data-dir DIR      (DIR/flowers5 holds train/CLASS/*.jpg and val/CLASS/*.jpg)
"""

from jaxtrain.config import (
    Config,
    DataConfig,
    DatasetSpec,
    EvaluationConfig,
    LoggingConfig,
    OptimizerSpec,
    ScheduleSpec,
)


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="resnet18",
        data=DataConfig(
            dataset=DatasetSpec("image_folder", subdirectory="flowers5", size=[128, 128]),
            batch_size=32,
            validation="10%",
            augment="pad_crop(16, mode='reflect')|flip_lr",
        ),
        optimizer=OptimizerSpec(
            "sgd",
            learning_rate=ScheduleSpec("cosine", 0.02, warmup="5%"),
            momentum=0.9,
            nesterov=True,
            weight_decay=[("kernel", 1e-3), (".*", 0)],
        ),
        train_for="30 epochs",
        evaluation=EvaluationConfig(every="2 epochs", batch_size=50),
        logging=LoggingConfig(every="20 steps"),
    )
