"""LeNet-5 in its modern, simplified form (LeCun et al. 1998, figure 2, without the sparse C3 and the RBF output)."""

from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import PositiveInt
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, endpoint
from jaxtrain.nn.pooling import Pooling, pool

MINIMUM_SIZE = 16
"""Smallest height and width that leave one pixel after two 5x5 convolutions and two 2x2 poolings."""


class LeNet5(nn.Module):
    """LeNet-5: conv1 5x5x6, pool, conv2 5x5x16, pool, fc1 120, fc2 84, logits, without padding.

    Endpoints: "conv1", "pool1", "conv2", "pool2", "fc1", "fc2".

    Attributes:
      num_classes: number of logits.
      pooling: kind of the 2x2 pooling.
      layers: options that all layers share.
    """

    num_classes: int
    pooling: Pooling = "max"
    layers: LayerBuilder = LayerBuilder(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C], 32x32 in the paper -> logits f32[N, num_classes]."""
        if min(images.shape[1:3]) < MINIMUM_SIZE:
            h, w = images.shape[1:3]
            raise ValueError(
                f"lenet5 needs images of at least {MINIMUM_SIZE}x{MINIMUM_SIZE} (32x32 in the paper), but "
                f"these are {h}x{w}: set data.resize or data.pad"
            )
        layers, x = self.layers.at(train=train), images
        for i, features in enumerate((6, 16), 1):
            x = endpoint(self, f"conv{i}", layers.act(layers.conv(x, features, 5, padding=0, name=f"conv{i}")))
            x = endpoint(self, f"pool{i}", pool(x, self.pooling))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate((120, 84), 1):
            x = endpoint(self, f"fc{i}", layers.act(layers.dense(x, width, name=f"fc{i}")))
        return layers.logits(x, self.num_classes)


def lenet5(*, num_classes: PositiveInt, pooling: Pooling = "max", **options: Unpack[LayerOptions]) -> LeNet5:
    """Build the simplified LeNet-5: 61,706 parameters for 32x32x1 images and 10 classes.

    Args:
      num_classes: number of logits.
      pooling: kind of the 2x2 pooling; "average" is nearest to the paper's trainable subsampling.
      options: layer options; see `LayerBuilder`. activation="tanh" with kernel_init="xavier" is nearest to the paper.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.lenet5(num_classes=10, pooling="average", activation="tanh")
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 1)))
      >>> sum(x.size for x in jax.tree.leaves(variables))
      61706
    """
    return LeNet5(num_classes=num_classes, pooling=pooling, layers=LayerBuilder(norm="none", **options))
