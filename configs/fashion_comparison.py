"""The comparison of optimizers: a multilayer perceptron on Fashion-MNIST, 5 epochs of 128; a variant an optimizer.

Source: of its own; the images are those of Xiao et al. 2017 (arXiv:1708.07747). Each optimizer has the middle one of
the five learning rates that scripts/compare_optimizers.py tries for it; docs/optimizers.md says which was best.
No regularization beyond that of the optimizers, no augmentation: what is compared is how well each minimizes.

Measured: docs/optimizers.md.
Command: jaxtrain train fashion_comparison:adam --data-dir DIR      (DIR/fashion_mnist holds the four IDX files)
"""

from jaxtrain.config import Config, DataConfig, LoggingConfig, ModelSpec, OptimizerSpec

VARIANTS = {
    "adadelta": "adadelta(cosine(1.0))",
    "adagrad": "adagrad(cosine(0.01))",
    "adam": "adam(cosine(1e-3))",
    "adam_uncorrected": "adam_uncorrected(cosine(1e-3))",
    "adamw": "adamw(cosine(1e-3))",
    "addsign": "addsign(cosine(0.03))",
    "easgd": "easgd(cosine(0.1), workers=4)",
    "lamb": "lamb(cosine(0.01))",
    "lars": "lars(cosine(10.0))",
    "lion": "lion(cosine(3e-4))",
    "lookahead": "lookahead(momentum(cosine(0.03)))",
    "momentum": "momentum(cosine(0.03))",
    "muon": "muon(cosine(0.01))",
    "nadam": "nadam(cosine(1e-3))",
    "nesterov": "nesterov(cosine(0.03))",
    "powersign": "powersign(cosine(0.03))",
    "prodigy": "prodigy(cosine(1.0))",
    "rmsprop": "rmsprop(cosine(1e-3))",
    "sam": "sam(momentum(cosine(0.03)))",
    "schedule_free": "schedule_free(sgd(1.0), learning_rate=1.0)",
    "sgd": "sgd(cosine(0.1))",
    "soap": "soap(cosine(3e-3))",
}


def get_config(variant: str = "sgd") -> Config:
    """Return the recipe with the optimizer of `variant`."""
    return Config(
        model=ModelSpec("mlp", widths=[256, 128]),
        data=DataConfig(dataset="fashion_mnist", batch_size=128, validation="5000 examples"),
        optimizer=OptimizerSpec.parse(VARIANTS[variant]),
        train_for="5 epochs",
        logging=LoggingConfig(every="0.25 epochs", tensorboard=False),
    )
