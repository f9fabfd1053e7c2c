"""Softmax regression and the multilayer perceptron."""

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt
from jaxtrain.nn.activations import Activation, activation


class MLP(nn.Module):
    """Dense layers `fc1 ... fcN` with an activation and dropout after each, then `logits`.

    Draws from the stream "dropout" when `train` is true and `dropout_rate` is above 0.
    """

    num_classes: int
    widths: tuple[int, ...]
    activation: Activation = "relu"
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        x = images.reshape(images.shape[0], -1)
        for i, width in enumerate(self.widths, 1):
            x = nn.Dense(width, kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"), name=f"fc{i}")(x)
            x = activation(self.activation)(x)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="logits")(x)


def mlp(
    *,
    num_classes: PositiveInt,
    widths: tuple[PositiveInt, ...] = (512, 512),
    activation: Activation = "relu",
    dropout_rate: Fraction = 0.0,
) -> MLP:
    """A multilayer perceptron.

    Args:
      num_classes: number of logits.
      widths: units of each hidden layer.
      activation: after each hidden layer.
      dropout_rate: probability with which a hidden unit is dropped in training (inverted dropout).
    """
    return MLP(num_classes=num_classes, widths=widths, activation=activation, dropout_rate=dropout_rate)


def linear(*, num_classes: PositiveInt) -> MLP:
    """Softmax regression: logits are an affine function of the pixels."""
    return MLP(num_classes=num_classes, widths=())
