"""The common ground of the comparison of optimizers: a multilayer perceptron on Fashion-MNIST, 5 epochs of 128.

Source: of its own; the images are those of Xiao et al. 2017 (arXiv:1708.07747). Each fashion_comparison_RULE is this
with another optimizer, at the middle one of the five learning rates that scripts/compare_optimizers.py tries for it;
docs/optimizers.md says which was best.
No regularization beyond that of the rules, no augmentation: what is compared is how well a rule minimizes.

Measured, compared: docs/optimizers.md.
Command: jaxtrain train fashion_comparison --data-dir DIR      (DIR/fashion_mnist holds the four IDX files)
"""

from jaxtrain.config import Config, DataConfig, LoggingConfig, ModelSpec, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe, with plain stochastic gradient descent."""
    return Config(
        model=ModelSpec("mlp", widths=[256, 128]),
        data=DataConfig(dataset="fashion_mnist", batch_size=128, validation="5000 examples"),
        optimizer=OptimizerSpec("sgd", learning_rate=ScheduleSpec("cosine", 0.1)),
        train_for="5 epochs",
        logging=LoggingConfig(every="0.25 epochs", tensorboard=False),
    )
