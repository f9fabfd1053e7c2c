"""Multinomial logistic regression on scikit-learn's digits by L-BFGS, on the full batch.

Source: L-BFGS after Nocedal 1980 and Liu & Nocedal 1989; the penalty is its own. One step is one iteration of the
method over all training images: there is no learning rate, the line search finds each step's length.

Measured: test accuracy 96.06 % on average over seeds 0 to 4, standard deviation 0.36 (95.56, 96.39, 95.83, 96.11,
96.39); the seed chooses the validation images. 7 to 14 s of training, beside other work on the machine.
Hardware: two CPU cores, jax 0.10.2.
Command: jaxtrain train digits_lbfgs seed=0
"""

from jaxtrain.config import CheckpointConfig, Config, DataConfig, EvaluationConfig, LoggingConfig, OptimizerSpec


def get_config() -> Config:
    """The recipe."""
    return Config(
        model="linear",
        data=DataConfig(dataset="digits", batch_size="all", validation="10%"),
        optimizer=OptimizerSpec("lbfgs", memory_size=10),
        penalties="l2(1e-3)",
        train_for="100 steps",
        devices=1,
        evaluation=EvaluationConfig(every="10 steps", best="loss"),
        checkpoint=CheckpointConfig(every="50 steps"),
        logging=LoggingConfig(every="5 steps"),
    )
