"""A net of ResNet-50's size, for tests of what must stay fast at that size: 25,557,032 parameters at 224x224x3."""

import functools

import jax
from flax import linen as nn

from jaxtrain.tables import Info

ROW = Info(
    factory="tests.practice.resnet50:resnet50",
    description="ResNet-50, for tests",
    supplied=("num_classes",),
)


class ResNet50(nn.Module):
    """Bottlenecks of 3, 4, 6, 3; stride in the 3x3."""

    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train)
        x = conv(64, (7, 7), strides=2, padding=3)(images)
        x = nn.max_pool(nn.relu(norm()(x)), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                width, stride = 64 * 2**stage, 2 if block == 0 and stage else 1
                y = nn.relu(norm()(conv(width, (1, 1))(x)))
                y = nn.relu(norm()(conv(width, (3, 3), strides=stride, padding=1)(y)))
                y = norm()(conv(4 * width, (1, 1))(y))
                if block == 0:
                    x = norm()(conv(4 * width, (1, 1), strides=stride)(x))
                x = nn.relu(x + y)
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


def resnet50(*, num_classes: int) -> ResNet50:
    """The net."""
    return ResNet50(num_classes)
