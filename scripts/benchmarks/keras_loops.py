"""Keras 3 on jax: `fit` on arrays in memory."""
# mypy: ignore-errors

import os

import numpy as np

from benchmarks import measuring
from benchmarks.nets import Net

os.environ["KERAS_BACKEND"] = "jax"

import keras
from keras import layers


def _shortcut(x, width: int, stride: int):
    """Of a residual block without parameters (He et al. 2015, option A)."""
    if stride == 1:
        return x
    more = width - x.shape[-1]
    x = layers.AveragePooling2D(1, strides=2)(x)
    return layers.Lambda(lambda v: keras.ops.pad(v, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))))(x)


def _resnet20(x):
    def conv(x, width: int, stride: int = 1):
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    x = layers.ReLU()(conv(x, 16))
    for width in (16, 32, 64):
        for i in range(3):
            stride = 2 if width > 16 and i == 0 else 1
            y = conv(layers.ReLU()(conv(x, width, stride)), width)
            x = layers.ReLU()(layers.Add()([y, _shortcut(x, width, stride)]))
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def _model(net: Net, name: str):
    x = inputs = keras.Input(net.shape)
    x = layers.Rescaling(1 / 255)(x)
    if name in ("tiny", "mlp"):
        x = layers.Flatten()(x)
        for width in [32] if name == "tiny" else [512, 512]:
            x = layers.Dense(width, activation="relu")(x)
        return keras.Model(inputs, layers.Dense(10)(x))
    if name == "lenet5":
        for width in (6, 16):
            x = layers.MaxPooling2D(2)(layers.Conv2D(width, 5, activation="relu")(x))
        x = layers.Flatten()(x)
        for width in (120, 84):
            x = layers.Dense(width, activation="relu")(x)
        return keras.Model(inputs, layers.Dense(10)(x))
    if name == "resnet20":
        return keras.Model(inputs, _resnet20(x))
    return keras.applications.ResNet50(weights=None, input_tensor=inputs, classifier_activation=None)


def loop(net: Net, name: str, batch: int, together: int) -> measuring.Advance:
    """`fit` with `steps_per_execution=together` and accuracy."""
    model = _model(net, name)
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=together,
    )
    images, labels = net.data()

    def advance(steps: int) -> None:
        whole, rest = divmod(steps, net.examples // batch)
        if whole:
            model.fit(images, labels, batch_size=batch, epochs=whole, steps_per_epoch=net.examples // batch, verbose=0)
        if rest:
            model.fit(images, labels, batch_size=batch, epochs=1, steps_per_epoch=rest, verbose=0)
        _ = np.asarray(model.weights[0])

    return advance
