"""ResNet-20 on CIFAR-10 by the recipe of He et al. 2015.

Source: He et al. 2015 (arXiv:1512.03385), section 4.2: 45,000 images to train and 5,000 to validate, batches of 128,
momentum 0.9 with the learning rate inside the velocity as in Caffe, 0.1 divided by 10 after 32,000 and 48,000 of 64,000
steps, weight decay 1e-4, the mean image subtracted, then crops of images padded by 4 pixels and mirrored, shortcut A,
no dropout. Published test error: 8.75 %.

The drops are written as shares of the run, so that a shorter `train_for` has them too.

Published only; 5 of 182 epochs were run here: docs/results.md.
Command: jaxtrain train cifar10_resnet20 --data-dir DIR      (DIR/cifar10 holds the batches, as downloaded)
"""

from jaxtrain.config import CheckpointConfig, Config, DataConfig, LoggingConfig, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="resnet20",
        data=DataConfig(
            dataset="cifar10",
            batch_size=128,
            validation="5000 examples",
            normalize="mean_image",
            augment="pad_crop(4)|flip_lr",
            normalize_first=True,
        ),
        optimizer=OptimizerSpec(
            "momentum",
            learning_rate=ScheduleSpec("multistep", 0.1, boundaries=["50%", "75%"]),
            momentum=0.9,
            weight_decay=1e-4,
        ),
        train_for="64000 steps",
        checkpoint=CheckpointConfig(every="1 epochs"),
        logging=LoggingConfig(every="100 steps"),
    )
