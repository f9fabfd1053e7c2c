"""Softmax regression, the multilayer perceptron, and the one with maxout units (Goodfellow et al. 2013)."""

from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt
from jaxtrain.nn.activations import maxout
from jaxtrain.nn.dropconnect import AtTest
from jaxtrain.nn.dropout import DropoutKind
from jaxtrain.nn.layers import DType, LayerOptions, Layers


class MLP(nn.Module):
    """Dense layers `fc1 ... fcN` with an activation and dropout after each, then `logits`.

    Draws from the stream "dropout" when `train` is true and `dropout_rate` or `dropconnect_rate` is above 0.

    Attributes:
      num_classes: number of logits.
      widths: units of each hidden layer.
      pieces: linear maps of which a unit is the maximum, in place of the activation; 1 for the activation.
      dropout_rate: after each hidden layer.
      dropout_kind: which dropout.
      dropconnect_rate: of the weights and biases of each hidden layer, which then has no pieces.
      dropconnect_test: what such a layer does at test.
      layers: how layers are made.
    """

    num_classes: int
    widths: tuple[int, ...]
    pieces: int = 1
    dropout_rate: float = 0.0
    dropout_kind: DropoutKind = "inverted"
    dropconnect_rate: float = 0.0
    dropconnect_test: AtTest = "mean"
    layers: Layers = Layers(norm="none")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = self.layers.at(train=train)
        x = images.reshape(images.shape[0], -1)
        for i, width in enumerate(self.widths, 1):
            if self.dropconnect_rate:
                x = layers.dropconnect(x, width, self.dropconnect_rate, self.dropconnect_test, name=f"fc{i}")
            else:
                x = layers.dense(x, width * self.pieces, name=f"fc{i}")
                x = maxout(x, self.pieces) if self.pieces > 1 else layers.act(x)
            x = layers.dropout(x, self.dropout_rate, self.dropout_kind)
        return layers.logits(x, self.num_classes)


def mlp(
    *,
    num_classes: PositiveInt,
    widths: tuple[PositiveInt, ...] = (512, 512),
    dropout_rate: Fraction = 0.0,
    dropout_kind: DropoutKind = "inverted",
    dropconnect_rate: Fraction = 0.0,
    dropconnect_test: AtTest = "mean",
    **options: Unpack[LayerOptions],
) -> MLP:
    """A multilayer perceptron.

    Args:
      num_classes: number of logits.
      widths: units of each hidden layer.
      dropout_rate: probability with which a hidden unit is dropped in training.
      dropout_kind: "inverted" scales in training, "vanilla" at test; "gaussian" multiplies by normal numbers; "alpha"
        is for SELU.
      dropconnect_rate: probability with which a weight or bias of a hidden layer is dropped, for each example anew.
      dropconnect_test: at test the mean weights, or the mean activation by a normal approximation ("moments").
      options: see `Layers`.
    """
    return MLP(
        num_classes=num_classes,
        widths=widths,
        dropout_rate=dropout_rate,
        dropout_kind=dropout_kind,
        dropconnect_rate=dropconnect_rate,
        dropconnect_test=dropconnect_test,
        layers=Layers(norm="none", **options),
    )


def maxout_mlp(
    *,
    num_classes: PositiveInt,
    widths: tuple[PositiveInt, ...] = (240, 240),
    pieces: PositiveInt = 5,
    dropout_rate: Fraction = 0.5,
    dtype: DType = "float32",
    param_dtype: DType = "float32",
) -> MLP:
    """A perceptron whose units are the maximum of some linear maps; the defaults are those for MNIST (section 5.1).

    Args:
      num_classes: number of logits.
      widths: units of each hidden layer.
      pieces: linear maps of each unit.
      dropout_rate: probability with which a hidden unit is dropped in training, with which the units were meant to go.
      dtype: of computation.
      param_dtype: of parameters.
    """
    layers = Layers(norm="none", activation="identity", dtype=dtype, param_dtype=param_dtype)
    return MLP(num_classes=num_classes, widths=widths, pieces=pieces, dropout_rate=dropout_rate, layers=layers)


def linear(*, num_classes: PositiveInt, dtype: DType = "float32", param_dtype: DType = "float32") -> MLP:
    """Softmax regression: logits are an affine function of the pixels.

    Args:
      num_classes: number of logits.
      dtype: of computation.
      param_dtype: of parameters.
    """
    return MLP(num_classes=num_classes, widths=(), layers=Layers(norm="none", dtype=dtype, param_dtype=param_dtype))
