"""A multilayer perceptron with dropout on scikit-learn's digits.

Source: dropout after Srivastava et al. 2014, AdamW after Loshchilov & Hutter 2019; widths and rates are its own.
The 8x8 images are taken as they are. 360 images are held out as the test split, 144 for validation.

Measured: test accuracy 98.39 % on average over seeds 0 to 4, standard deviation 0.12 (98.33, 98.61, 98.33, 98.33,
98.33); with the parameters of least validation loss instead of the last ones 98.22 (0.15). 8 s of training.
Hardware: two CPU cores, jax 0.10.2.
Command: jaxtrain train digits_mlp seed=0
"""

from jaxtrain.config import Config, DataConfig, EvaluationConfig, ModelSpec, OptimizerSpec, ScheduleSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model=ModelSpec("mlp", widths=[256, 256], dropout_rate=0.2),
        data=DataConfig(dataset="digits", batch_size=64, validation="10%"),
        optimizer=OptimizerSpec(
            "adamw", learning_rate=ScheduleSpec("cosine", 2e-3, warmup="5%"), weight_decay=[("kernel", 0.05), (".*", 0)]
        ),
        train_for="60 epochs",
        evaluation=EvaluationConfig(every="2 epochs", best="loss"),
    )
