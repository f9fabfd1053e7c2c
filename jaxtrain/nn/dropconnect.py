"""DropConnect (Wan et al. 2013): each example sees a dense layer with its own choice of weights and biases left out.

An example's mask has the size of the kernel, so those of a batch are `[N, inputs, outputs]`. They are made for some
outputs at a time, and made again for the gradient, so that what is in memory is bounded and a batch that is cut over
devices stays cut.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.scipy.stats import norm

from jaxtrain.nn.activations import Activation, activation
from jaxtrain.nn.dropout import draw_gates
from jaxtrain.nn.init.initializers import Initializer
from jaxtrain.random import example_keys

AtTest = Literal["mean", "moments"]
"""The layer with its mean weights; or the mean of the activation of a normal variable with the layer's two moments."""


def dropconnect_given(
    kernel_kept: jax.Array, bias_kept: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> jax.Array:
    """What a dense layer gives with the weights and biases that are kept, unscaled (section 3).

    Args:
      kernel_kept: bool[N, inputs, outputs].
      bias_kept: bool[N, outputs].
      x: `[N, inputs]`.
      kernel: `[inputs, outputs]`.
      bias: `[outputs]`.
    """
    zero = jnp.zeros((), x.dtype)
    products = jnp.where(kernel_kept, x[:, :, None] * kernel[None], zero)
    return products.sum(axis=1) + jnp.where(bias_kept, bias[None], zero)


def dropconnect(
    key: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array, rate: float, *, at_a_time: int | None = 16
) -> jax.Array:
    """`dropconnect_given` with masks that `key` draws.

    The mask of an output is a function of `(key, example, output)` alone, whatever `at_a_time` and the size of the
    batch.

    Args:
      key: of the batch.
      x: `[N, inputs]`.
      kernel: `[inputs, outputs]`.
      bias: `[outputs]`.
      rate: the probability of being dropped; 1 - p of the paper.
      at_a_time: outputs whose masks are made at once, N x inputs of them for each; None for all. For 128 examples and
        784 x 512 weights a gradient on a CPU takes 34 MiB with 16 of them and 1.2 GiB with all, and no less time.
    """

    keys = example_keys(key, x)

    @jax.checkpoint
    def unit(of_one: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        number, weights, offset = of_one
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        kept = jax.vmap(lambda key: draw_gates(key, 1 - rate, (x.shape[1] + 1,)))(own)
        return dropconnect_given(kept[:, :-1, None], kept[:, -1:], x, weights[:, None], offset[None])[:, 0]

    outputs = kernel.shape[1]
    units = (jnp.arange(outputs, dtype=jnp.uint32), kernel.T, bias)
    if at_a_time is None or at_a_time >= outputs:
        return jax.vmap(unit, out_axes=1)(units)
    return jax.lax.map(unit, units, batch_size=at_a_time).T


def dropconnect_moments(x: jax.Array, kernel: jax.Array, bias: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of `dropconnect` over masks, exact: `[N, outputs]` each (section 3.1).

    With p = 1 - `rate` they are p (x W + b) and p (1 - p) ((x * x) (W * W) + b * b).
    """
    p = 1 - rate
    mean = p * (x @ kernel + bias[None])
    return mean, p * (1 - p) * (jnp.square(x) @ jnp.square(kernel) + jnp.square(bias)[None])


def mean_activation_given(noise: jax.Array, mean: jax.Array, variance: jax.Array, name: Activation) -> jax.Array:
    """The paper's inference (algorithm 2): the mean over samples of the activation of normal variables.

    Args:
      noise: standard normal `[S, N, outputs]`, S samples.
      mean: `[N, outputs]`.
      variance: the same, not negative.
      name: of the activation.
    """
    samples = mean[None] + jnp.sqrt(variance)[None] * noise
    return activation(name)(samples).mean(axis=0)


def mean_activation(mean: jax.Array, variance: jax.Array, name: Activation) -> jax.Array:
    """What `mean_activation_given` tends to with many samples, without any.

    For a normal z of this mean and deviation s, E max(z, 0) = mean Phi(mean / s) + s phi(mean / s); for an activation
    other than ReLU and the identity the integral is a Gauss-Hermite sum of 32 terms.

    Args:
      mean: `[N, outputs]`.
      variance: the same, not negative.
      name: of the activation.
    """
    if name == "identity":
        return mean
    dtype, wide = mean.dtype, np.promote_types(mean.dtype, np.float32)
    mean = mean.astype(wide)
    deviation = jnp.sqrt(jnp.maximum(variance.astype(wide), 1e-30))  # which leaves a gradient where inputs are 0
    if name == "relu":
        z = jnp.clip(mean / deviation, -30, 30)  # beyond which it is 0 or the mean, to every digit
        return (mean * norm.cdf(z) + deviation * norm.pdf(z)).astype(dtype)
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    shares = (weights / weights.sum()).reshape(-1, *(1,) * mean.ndim)
    samples = mean[None] + deviation[None] * jnp.asarray(nodes, wide).reshape(shares.shape)
    return (jnp.asarray(shares, wide) * activation(name)(samples)).sum(axis=0).astype(dtype)


class DropConnect(nn.Module):
    """A dense layer with DropConnect and its activation; draws from the stream "dropout".

    Its parameters are called and initialized as those of `nn.Dense`.

    Attributes:
      train: whether this is training.
      features: outputs.
      rate: the probability with which a weight or bias is dropped, in [0, 1); 0 draws nothing.
      activation: after the layer.
      at_test: the activation of the mean ("mean"), or the mean of the activation by the paper's normal approximation.
      at_a_time: see `dropconnect`.
      kernel_init: of the kernel.
      dtype: of computation.
      param_dtype: of the parameters.
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
        """`x[N, inputs]` -> `[N, features]`, after the activation."""
        if x.ndim != 2 or not 0 <= self.rate < 1:
            raise ValueError(
                f"DropConnect takes examples of one axis, [N, inputs], and a rate in [0, 1); here are {x.shape} and "
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
