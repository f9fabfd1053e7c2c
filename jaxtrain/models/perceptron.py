"""Softmax regression, the multilayer perceptron, and the maxout network (Goodfellow et al. 2013)."""

from typing import Unpack

import jax
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.nn.activations import maxout
from jaxtrain.nn.dropconnect import AtTest
from jaxtrain.nn.dropout import DropoutKind
from jaxtrain.nn.layers import DType, LayerBuilder, LayerOptions


class MLP(nn.Module):
    """Dense layers `fc1 ... fcN` with an activation and dropout after each, then `logits`.

    Draws from the stream "dropout" when `train` is true and `dropout_rate` or `dropconnect_rate` is above 0.

    Attributes:
      num_classes: number of logits.
      widths: number of units of each hidden layer.
      pieces: number of linear maps per maxout unit, which replaces the activation; 1 for the activation.
      dropout_rate: dropout rate after each hidden layer.
      dropout_kind: kind of dropout.
      dropconnect_rate: DropConnect rate of the weights and biases of each hidden layer. Above 0 it excludes `pieces`.
      dropconnect_test: inference method of DropConnect.
      layers: options that all layers share.
    """

    num_classes: int
    widths: tuple[int, ...]
    pieces: int = 1
    dropout_rate: float = 0.0
    dropout_kind: DropoutKind = "inverted"
    dropconnect_rate: float = 0.0
    dropconnect_test: AtTest = "mean"
    layers: LayerBuilder = LayerBuilder(norm="none")

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
    """Build a multilayer perceptron.

    Args:
      num_classes: number of logits.
      widths: number of units of each hidden layer.
      dropout_rate: probability of dropping a hidden unit in training.
      dropout_kind: "inverted" scales in training, "vanilla" at test; "gaussian" multiplies by normal numbers; "alpha"
        is for SELU.
      dropconnect_rate: probability of dropping a weight or bias of a hidden layer, drawn separately for each example.
      dropconnect_test: inference method of DropConnect: "mean" uses the mean weights, "moments" the mean activation by
        a normal approximation.
      options: layer options; see `LayerBuilder`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.mlp(num_classes=10, widths=(32, 32), dropout_rate=0.5)
      >>> init = lambda images: model.init_with_output(jax.random.key(0), images, train=False)
      >>> logits, variables = jax.eval_shape(init, jnp.zeros((4, 8, 8, 1)))
      >>> logits.shape, variables["params"]["fc1"]["kernel"].shape
      ((4, 10), (64, 32))
    """
    return MLP(
        num_classes=num_classes,
        widths=widths,
        dropout_rate=dropout_rate,
        dropout_kind=dropout_kind,
        dropconnect_rate=dropconnect_rate,
        dropconnect_test=dropconnect_test,
        layers=LayerBuilder(norm="none", **options),
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
    """Build a perceptron with maxout units; the defaults are those for MNIST (section 5.1).

    A maxout unit is the maximum of `pieces` linear maps.

    Args:
      num_classes: number of logits.
      widths: number of units of each hidden layer.
      pieces: number of linear maps per unit.
      dropout_rate: probability of dropping a hidden unit in training. The paper designs maxout for dropout.
      dtype: dtype of the computation.
      param_dtype: dtype of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.maxout_mlp(num_classes=10, widths=(16,), pieces=5)
      >>> init = lambda images: model.init(jax.random.key(0), images, train=False)
      >>> params = jax.eval_shape(init, jnp.zeros((1, 8, 8, 1)))["params"]
      >>> params["fc1"]["kernel"].shape, params["logits"]["kernel"].shape  # 16 units of 5 linear maps
      ((64, 80), (16, 10))
    """
    layers = LayerBuilder(norm="none", activation="identity", dtype=dtype, param_dtype=param_dtype)
    return MLP(num_classes=num_classes, widths=widths, pieces=pieces, dropout_rate=dropout_rate, layers=layers)


def linear(*, num_classes: PositiveInt, dtype: DType = "float32", param_dtype: DType = "float32") -> MLP:
    """Build softmax regression: logits are an affine function of the pixels.

    Args:
      num_classes: number of logits.
      dtype: dtype of the computation.
      param_dtype: dtype of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.linear(num_classes=10)
      >>> init = lambda images: model.init(jax.random.key(0), images, train=False)
      >>> variables = jax.eval_shape(init, jnp.zeros((1, 28, 28, 1)))
      >>> sum(x.size for x in jax.tree.leaves(variables))  # 28 * 28 * 10 + 10
      7850
    """
    return MLP(
        num_classes=num_classes, widths=(), layers=LayerBuilder(norm="none", dtype=dtype, param_dtype=param_dtype)
    )
