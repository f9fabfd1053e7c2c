"""DropConnect (Wan et al. 2013): a dense layer that drops weights and biases, with a mask of its own for each example.

An example's mask has the size of the kernel, so the masks of a batch are `[N, inputs, outputs]`. They are drawn for a
few outputs at a time, and drawn again for the gradient. This bounds the memory and keeps a sharded batch sharded.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.scipy.stats import norm

from jaxtrain.nn.activations import Activation, activation
from jaxtrain.nn.dropout import draw_mask
from jaxtrain.nn.init.initializers import Initializer
from jaxtrain.random import example_keys

AtTest = Literal["mean", "moments"]
"""Inference with the mean weights; or with the mean of the activation, for a normal variable with the layer's mean and
variance."""


def dropconnect_given(
    kernel_mask: jax.Array, bias_mask: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> jax.Array:
    """Return a dense layer's outputs `[N, outputs]` with masked weights and biases, unscaled (section 3).

    Args:
      kernel_mask: bool[N, inputs, outputs], true for weights that are kept.
      bias_mask: bool[N, outputs], true for biases that are kept.
      x: `[N, inputs]`.
      kernel: `[inputs, outputs]`.
      bias: `[outputs]`.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x, kernel, bias = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [5.0]]), jnp.array([7.0])
      >>> mask = jnp.array([[[True], [False]]])
      >>> jaxtrain.nn.dropconnect_given(mask, jnp.array([[True]]), x, kernel, bias).tolist()
      [[10.0]]
    """
    zero = jnp.zeros((), x.dtype)
    products = jnp.where(kernel_mask, x[:, :, None] * kernel[None], zero)
    return products.sum(axis=1) + jnp.where(bias_mask, bias[None], zero)


def dropconnect(
    key: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array, rate: float, *, at_a_time: int | None = 16
) -> jax.Array:
    """Return `dropconnect_given` with masks drawn from `key`.

    The mask of an output depends only on `(key, example, output)`, not on `at_a_time` or the batch size.

    Args:
      key: the key for the batch.
      x: `[N, inputs]`.
      kernel: `[inputs, outputs]`.
      bias: `[outputs]`.
      rate: the probability that a weight or bias is dropped; 1 - p in the paper.
      at_a_time: the number of outputs whose masks are drawn together, N x inputs booleans for each; None for all. For
        128 examples and 784 x 512 weights, a gradient on a CPU takes 34 MiB with 16 outputs. With all outputs it takes
        1.2 GiB and is not faster.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x, kernel, bias = jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.zeros(4)
      >>> jaxtrain.nn.dropconnect(jax.random.key(0), x, kernel, bias, rate=0.5).tolist()
      [[0.0, 0.0, 2.0, 1.0], [0.0, 1.0, 2.0, 1.0]]
    """

    keys = example_keys(key, x)

    @jax.checkpoint
    def compute_unit(unit: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        index, weights, offset = unit
        unit_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        mask = jax.vmap(lambda key: draw_mask(key, 1 - rate, (x.shape[1] + 1,)))(unit_keys)
        return dropconnect_given(mask[:, :-1, None], mask[:, -1:], x, weights[:, None], offset[None])[:, 0]

    outputs = kernel.shape[1]
    units = (jnp.arange(outputs, dtype=jnp.uint32), kernel.T, bias)
    if at_a_time is None or at_a_time >= outputs:
        return jax.vmap(compute_unit, out_axes=1)(units)
    return jax.lax.map(compute_unit, units, batch_size=at_a_time).T


def dropconnect_moments(x: jax.Array, kernel: jax.Array, bias: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    """Return the exact mean and variance of `dropconnect` over masks, `[N, outputs]` each (section 3.1).

    With p = 1 - `rate` they are p (x W + b) and p (1 - p) ((x * x) (W * W) + b * b).

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> x, kernel, bias = jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [5.0]]), jnp.array([7.0])
      >>> mean, variance = jaxtrain.nn.dropconnect_moments(x, kernel, bias, rate=0.5)
      >>> mean.tolist(), variance.tolist()
      ([[10.0]], [[39.5]])
    """
    p = 1 - rate
    mean = p * (x @ kernel + bias[None])
    return mean, p * (1 - p) * (jnp.square(x) @ jnp.square(kernel) + jnp.square(bias)[None])


def mean_activation_given(noise: jax.Array, mean: jax.Array, variance: jax.Array, name: Activation) -> jax.Array:
    """Return the mean of an activation over samples of normal variables: the paper's inference (algorithm 2).

    Args:
      noise: standard normal numbers `[S, N, outputs]` for S samples.
      mean: `[N, outputs]`.
      variance: `[N, outputs]`, not negative.
      name: the activation's name.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> noise = jnp.array([-1.0, 1.0]).reshape(2, 1, 1)
      >>> jaxtrain.nn.mean_activation_given(noise, jnp.array([[1.0]]), jnp.array([[4.0]]), "relu").tolist()
      [[1.5]]
    """
    samples = mean[None] + jnp.sqrt(variance)[None] * noise
    return activation(name)(samples).mean(axis=0)


def mean_activation(mean: jax.Array, variance: jax.Array, name: Activation) -> jax.Array:
    """Return the expectation of an activation of normal variables: `mean_activation_given` without sampling.

    For a normal z with standard deviation s, E max(z, 0) = mean Phi(mean / s) + s phi(mean / s). For activations other
    than ReLU and the identity, the integral is a Gauss-Hermite sum of 32 terms.

    Args:
      mean: `[N, outputs]`.
      variance: `[N, outputs]`, not negative.
      name: the activation's name.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> print(jaxtrain.nn.mean_activation(jnp.zeros((1, 1)), jnp.ones((1, 1)), "relu").round(4))
      [[0.3989]]
    """
    if name == "identity":
        return mean
    dtype, wide = mean.dtype, np.promote_types(mean.dtype, np.float32)
    mean = mean.astype(wide)
    stddev = jnp.sqrt(jnp.maximum(variance.astype(wide), 1e-30))  # not 0, so that its gradient is finite
    if name == "relu":
        z = jnp.clip(mean / stddev, -30, 30)  # beyond these limits the result is 0 or the mean, to every digit
        return (mean * norm.cdf(z) + stddev * norm.pdf(z)).astype(dtype)
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    weights = (weights / weights.sum()).reshape(-1, *(1,) * mean.ndim)
    samples = mean[None] + stddev[None] * jnp.asarray(nodes, wide).reshape(weights.shape)
    return (jnp.asarray(weights, wide) * activation(name)(samples)).sum(axis=0).astype(dtype)


class DropConnect(nn.Module):
    """A dense layer with DropConnect and an activation; it draws from the random stream "dropout".

    Its parameters have the names and initial values of `nn.Dense`.

    Attributes:
      train: whether this is training.
      features: the number of outputs.
      rate: the probability that a weight or bias is dropped, in [0, 1); 0 draws nothing.
      activation: the name of the activation after the layer.
      at_test: the output in evaluation: the activation of the mean ("mean"), or the mean of the activation under the
        paper's normal approximation ("moments").
      at_a_time: the number of outputs whose masks are drawn together; see `dropconnect`.
      kernel_init: the kernel's initializer.
      dtype: the dtype of the computation.
      param_dtype: the dtype of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.ones((2, 3))
      >>> layer = jaxtrain.nn.DropConnect(train=True, features=4, rate=0.5, kernel_init=jax.nn.initializers.ones)
      >>> variables = layer.clone(train=False).init(jax.random.key(0), x)
      >>> layer.apply(variables, x, rngs={"dropout": jax.random.key(1)}).tolist()
      [[1.0, 1.0, 0.0, 1.0], [2.0, 1.0, 2.0, 1.0]]
    """

    train: bool
    features: int
    rate: float
    activation: Activation = "identity"
    at_test: AtTest = "mean"
    at_a_time: int | None = 16
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs `[N, features]` for `x[N, inputs]`, after the activation."""
        if x.ndim != 2 or not 0 <= self.rate < 1:
            raise ValueError(
                f"DropConnect takes inputs of shape [N, inputs] and a rate in [0, 1), got shape {x.shape} and rate "
                f"{self.rate}"
            )
        kernel = self.param("kernel", self.kernel_init, (x.shape[1], self.features), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.train and self.rate:
            key = self.make_rng("dropout")
            return activation(self.activation)(dropconnect(key, x, kernel, bias, self.rate, at_a_time=self.at_a_time))
        mean, variance = dropconnect_moments(x, kernel, bias, self.rate)
        if self.at_test == "moments" and self.rate:
            return mean_activation(mean, variance, self.activation)
        return activation(self.activation)(mean)
