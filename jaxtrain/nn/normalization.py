"""Batch normalization with explicit conventions, local response normalization, and names of normalizations."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.sharding import reshape
from jaxtrain.step_context import current_context

Norm = Literal["batch", "layer", "instance", "group", "none"]
"""The values that share statistics: a channel of the batch; an example; a channel of an example; one of 32 groups of
an example's channels; or no normalization."""

Array = jax.Array
BATCH_STATS = "batch_stats"


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    Mean and variance are computed in float32 or wider. The variance is the mean squared difference from the mean. The
    faster form E[x^2] - E[x]^2 has no correct digit if the mean is a few thousand times the standard deviation.

    Under jit with a sharded batch, the statistics are those of the whole batch. Inside `pmap` or `shard_map`, each
    device has statistics of its own unless `axis_name` is given. `StepContext.batch_norm` may request statistics of
    groups of examples; the running statistics are then updated with the mean over groups.

    Attributes:
      train: whether to normalize with the batch's statistics and update the running statistics.
      decay: the decay of the running statistics: new = decay * old + (1 - decay) * batch. flax calls it momentum;
        torch's momentum is 1 - decay, so torch's default of 0.1 is 0.9 here.
      epsilon: the number that is added to the variance.
      unbiased: whether running variances are divided by N - 1, as in torch; otherwise they are divided by N, as in
        flax. The batch itself is always normalized with the variance divided by N.
      affine: whether to learn a scale and a bias per channel.
      scale_init: the initializer of the scale; with zeros a residual branch begins as zero (Goyal et al. 2017,
        section 5.1).
      axis_name: the axis of `pmap` or `shard_map` over which statistics are averaged.
      dtype: the dtype of the result; None for the input's.
      param_dtype: the dtype of scale and bias.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> x = jnp.array([[1.0], [3.0]])
      >>> layer = jaxtrain.nn.BatchNorm(train=True, epsilon=0.0)
      >>> variables = layer.init(jax.random.key(0), x)
      >>> y, state = layer.apply(variables, x, mutable=["batch_stats"])
      >>> print(y.round(2).tolist(), f"running mean {state['batch_stats']['mean'][0]:.1f}")
      [[-1.0], [1.0]] running mean 0.2
    """

    train: bool
    decay: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = False
    affine: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    axis_name: str | Sequence[str] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the normalized `x[..., C]`; in training also update the collection "batch_stats"."""
        channels = x.shape[-1]
        has_running = self.has_variable(BATCH_STATS, "mean")
        running_mean = self.variable(BATCH_STATS, "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable(BATCH_STATS, "var", jnp.ones, (channels,), jnp.float32)
        wide = _widen(x)
        groups = (
            current_context().batch_norm.count_groups(x.shape[0]) if self.train and not self.is_initializing() else 1
        )
        if groups > 1:
            wide = reshape(wide, groups, x.shape[0] // groups, *x.shape[1:])
        if self.train:
            mean, var = self._statistics(wide, grouped=groups > 1)
            if has_running:
                new_var = var * self._bessel(x, groups) if self.unbiased else var
                running_mean.value = self._decay(running_mean.value, mean if groups == 1 else mean.mean(axis=0))
                running_var.value = self._decay(running_var.value, new_var if groups == 1 else new_var.mean(axis=0))
        else:
            mean, var = running_mean.value.astype(wide.dtype), running_var.value.astype(wide.dtype)
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.affine:
            scale = self.param("scale", self.scale_init, (channels,), self.param_dtype).astype(wide.dtype)
            factor = factor * (scale if groups == 1 else scale[None])
        # (x - c) f - (mean - c) f equals (x - mean) f for every constant c, and so do all derivatives. In this form the
        # derivative by the mean goes through the channels' offsets, whose sum over images the bias needs anyway.
        center = jax.lax.stop_gradient(mean)
        offset = (center - mean) * factor
        if self.affine:
            bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(wide.dtype)
            offset = offset + (bias if groups == 1 else bias[None])
        y = (wide - _expand(center, wide)) * _expand(factor, wide) + _expand(offset, wide)
        y = reshape(y, *x.shape) if groups > 1 else y
        return y.astype(x.dtype if self.dtype is None else self.dtype)

    def _statistics(self, x: Array, *, grouped: bool) -> tuple[Array, Array]:
        """Return the mean and variance f[C] of `x[N, ..., C]`, or f[G, C] of `x[G, N, ..., C]`."""
        axes = tuple(range(1 if grouped else 0, x.ndim - 1))
        mean = x.mean(axis=axes)
        center = jax.lax.stop_gradient(mean)  # any constant is correct: see above
        var = jnp.square(x - _expand(center, x)).mean(axis=axes) - jnp.square(mean - center)
        axis_name = self._axis_name()
        if axis_name is None or self.is_initializing():
            return mean, var
        global_mean = jax.lax.pmean(mean, axis_name)
        return global_mean, jax.lax.pmean(var + jnp.square(mean - global_mean), axis_name)

    def _axis_name(self) -> str | Sequence[str] | None:
        return self.axis_name if self.axis_name is not None else current_context().batch_norm.axis_name

    def _bessel(self, x: Array, groups: int) -> Array | float:
        """Return N / (N - 1) for a variance over N values."""
        count: Any = x.size // x.shape[-1] // groups
        if (axis_name := self._axis_name()) is not None:
            count = count * jax.lax.axis_size(axis_name)
        return count / max(count - 1, 1)

    def _decay(self, old: Array, new: Array) -> Array:
        return self.decay * old + (1 - self.decay) * new.astype(old.dtype)


def _expand(values: Array, x: Array) -> Array:
    """Reshape `values[C]` or `[G, C]` with axes of 1 to broadcast over `x[..., C]` or `[G, ..., C]`."""
    return values.reshape(*values.shape[:-1], *(1,) * (x.ndim - values.ndim), values.shape[-1])


def local_response_norm(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """Return x / (k + alpha * sum of squares of `size` neighboring channels)^beta.

    This is section 3.3 of Krizhevsky et al. 2012. The sum is not divided by `size`, as in the paper and TensorFlow.
    torch's `LocalResponseNorm` and Caffe divide alpha by the size, so the defaults here are their (5, 5e-4, 0.75, 2).

    Args:
      x: `[..., C]`.
      size: the number of neighboring channels, including the channel itself; beyond the first and last channel there is
        zero padding.
      alpha: the factor of the sum.
      beta: the exponent.
      k: the constant that is added to the sum.

    Example:
      >>> import jax.numpy as jnp, jaxtrain
      >>> y = jaxtrain.nn.local_response_norm(jnp.ones(4), size=3, alpha=1.0, beta=1.0, k=1.0)
      >>> [round(float(value), 2) for value in y]
      [0.33, 0.25, 0.25, 0.33]
    """
    before = (size - 1) // 2
    window, strides = (1,) * (x.ndim - 1) + (size,), (1,) * x.ndim
    pads = ((0, 0),) * (x.ndim - 1) + ((before, size - 1 - before),)
    wide = _widen(x)
    total = jax.lax.reduce_window(wide * wide, np.zeros((), wide.dtype), jax.lax.add, window, strides, pads)
    return (wide * (k + alpha * total) ** -beta).astype(x.dtype)


def _widen(x: Array) -> Array:
    """Convert to float32 unless the dtype is at least as wide."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
