"""LeNet-5 in its modern simplification (LeCun et al. 1998, figure 2, without its sparse C3 table and RBF output)."""

import jax
from flax import linen as nn

from jaxtrain.config.annotations import PositiveInt
from jaxtrain.nn.activations import Activation, activation
from jaxtrain.nn.pooling import Pooling, pool

MINIMUM_SIZE = 16
"""The smallest side that leaves a pixel after two 5x5 convolutions and two 2x2 poolings."""


class LeNet5(nn.Module):
    """conv1 5x5x6, pool, conv2 5x5x16, pool, fc1 120, fc2 84, logits; the convolutions are not padded."""

    num_classes: int
    activation: Activation = "relu"
    pooling: Pooling = "max"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C], 32x32 in the paper -> logits f32[N, num_classes]."""
        if min(images.shape[1:3]) < MINIMUM_SIZE:
            h, w = images.shape[1:3]
            raise ValueError(
                f"lenet5 needs images of at least {MINIMUM_SIZE}x{MINIMUM_SIZE}, and 32x32 as published; "
                f"these are {h}x{w}: set data.resize or data.pad"
            )
        act = activation(self.activation)
        init = nn.initializers.variance_scaling(2.0 if self.activation == "relu" else 1.0, "fan_in", "normal")
        x = images
        for name, features in (("conv1", 6), ("conv2", 16)):
            x = act(nn.Conv(features, (5, 5), padding="VALID", kernel_init=init, name=name)(x))
            x = pool(x, self.pooling)
        x = x.reshape(x.shape[0], -1)
        for name, width in (("fc1", 120), ("fc2", 84)):
            x = act(nn.Dense(width, kernel_init=init, name=name)(x))
        return nn.Dense(self.num_classes, name="logits")(x)


def lenet5(*, num_classes: PositiveInt, activation: Activation = "relu", pooling: Pooling = "max") -> LeNet5:
    """LeNet-5, simplified: 61,706 parameters for 32x32x1 images and 10 classes.

    Args:
      num_classes: number of logits.
      activation: after every convolution and hidden dense layer ("tanh" is nearest to the paper).
      pooling: over 2x2 windows ("average" is nearest to the paper's trainable subsampling).
    """
    return LeNet5(num_classes=num_classes, activation=activation, pooling=pooling)
