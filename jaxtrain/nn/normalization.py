"""Normalization: batch normalization with its conventions named, local response normalization, and a choice by name."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.sharding import reshape
from jaxtrain.step_context import current_context

Norm = Literal["batch", "layer", "instance", "group", "none"]
"""By name: over the batch and places; over all of an example; its channels one by one, or in 32 groups; not at all."""

Array = jax.Array
BATCH_STATS = "batch_stats"


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2).

    Mean and variance are computed in float32 at least, and the variance as the mean square of differences from the
    mean: E[x^2] - E[x]^2, which is faster, has no correct digit where the mean is a few thousand times the deviation.

    Under jit with a batch that is cut over devices, the statistics are those of the whole batch; inside `pmap` or
    `shard_map` they are each device's own, unless `axis_name` joins them. `StepContext.batch_norm` may
    ask for those of groups of examples; what is kept is the mean over groups then.

    Attributes:
      train: whether to use the batch's statistics, and to move the running ones.
      decay: of the running statistics: new = decay * old + (1 - decay) * batch's. flax calls it momentum; torch's
        momentum is 1 - decay, and its default of 0.1 is 0.9 here.
      epsilon: added to the variance.
      unbiased: keeps running variances divided by N - 1, as torch does, and not by N, as flax does and the batch is
        normalized by.
      affine: learns a scale and a bias a channel.
      scale_init: of the scale: zeros make a residual branch begin as nothing (Goyal et al. 2017, section 5.1).
      axis_name: of `pmap` or `shard_map`, over which statistics are joined.
      dtype: of the result; that of the input where None.
      param_dtype: of scale and bias.
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
        """`x[..., C]` -> the same shape; in training it writes to the collection "batch_stats"."""
        channels = x.shape[-1]
        known = self.has_variable(BATCH_STATS, "mean")
        mean_kept = self.variable(BATCH_STATS, "mean", jnp.zeros, (channels,), jnp.float32)
        var_kept = self.variable(BATCH_STATS, "var", jnp.ones, (channels,), jnp.float32)
        wide = _widened(x)
        groups = (
            current_context().batch_norm.count_groups(x.shape[0]) if self.train and not self.is_initializing() else 1
        )
        if groups > 1:
            wide = reshape(wide, groups, x.shape[0] // groups, *x.shape[1:])
        if self.train:
            mean, var = self._statistics(wide, grouped=groups > 1)
            if known:
                kept = var * self._bessel(x, groups) if self.unbiased else var
                mean_kept.value = self._moved(mean_kept.value, mean if groups == 1 else mean.mean(axis=0))
                var_kept.value = self._moved(var_kept.value, kept if groups == 1 else kept.mean(axis=0))
        else:
            mean, var = mean_kept.value.astype(wide.dtype), var_kept.value.astype(wide.dtype)
        factor = jax.lax.rsqrt(var + self.epsilon)
        if self.affine:
            scale = self.param("scale", self.scale_init, (channels,), self.param_dtype).astype(wide.dtype)
            factor = factor * (scale if groups == 1 else scale[None])
        # (x - c) f - (mean - c) f is (x - mean) f for every constant c, so all derivatives are those of it; but that by
        # the mean is one by the channels' offsets, whose sum over the images the bias needs anyway.
        center = jax.lax.stop_gradient(mean)
        offset = (center - mean) * factor
        if self.affine:
            bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(wide.dtype)
            offset = offset + (bias if groups == 1 else bias[None])
        y = (wide - _spread(center, wide)) * _spread(factor, wide) + _spread(offset, wide)
        y = reshape(y, *x.shape) if groups > 1 else y
        return y.astype(x.dtype if self.dtype is None else self.dtype)

    def _statistics(self, x: Array, *, grouped: bool) -> tuple[Array, Array]:
        """Mean and variance f[C] of `x[N, ..., C]`, or f[G, C] of `x[G, N, ..., C]`."""
        axes = tuple(range(1 if grouped else 0, x.ndim - 1))
        mean = x.mean(axis=axes)
        center = jax.lax.stop_gradient(mean)  # any constant would do: see above
        var = jnp.square(x - _spread(center, x)).mean(axis=axes) - jnp.square(mean - center)
        axis_name = self._joined()
        if axis_name is None or self.is_initializing():
            return mean, var
        whole = jax.lax.pmean(mean, axis_name)
        return whole, jax.lax.pmean(var + jnp.square(mean - whole), axis_name)

    def _joined(self) -> str | Sequence[str] | None:
        return self.axis_name if self.axis_name is not None else current_context().batch_norm.axis_name

    def _bessel(self, x: Array, groups: int) -> Array | float:
        """N / (N - 1) for the N values that a channel's variance is made of."""
        count: Any = x.size // x.shape[-1] // groups
        if (axis_name := self._joined()) is not None:
            count = count * jax.lax.axis_size(axis_name)
        return count / max(count - 1, 1)

    def _moved(self, old: Array, new: Array) -> Array:
        return self.decay * old + (1 - self.decay) * new.astype(old.dtype)


def _spread(values: Array, x: Array) -> Array:
    """`values[C]` or `[G, C]` with ones between, as `x[..., C]` or `[G, ..., C]` needs them."""
    return values.reshape(*values.shape[:-1], *(1,) * (x.ndim - values.ndim), values.shape[-1])


def local_response_norm(x: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Array:
    """x / (k + alpha * sum of squares of `size` neighboring channels)^beta (Krizhevsky et al. 2012, section 3.3).

    The sum, as in the paper and TensorFlow; torch's `LocalResponseNorm` and Caffe divide alpha by the size, so that
    this is their (5, 5e-4, 0.75, 2).

    Args:
      x: `[..., C]`.
      size: channels, the middle one's own among them; the channels end where they end.
      alpha: of the sum.
      beta: the exponent.
      k: what is added.
    """
    before = (size - 1) // 2
    window, strides = (1,) * (x.ndim - 1) + (size,), (1,) * x.ndim
    pads = ((0, 0),) * (x.ndim - 1) + ((before, size - 1 - before),)
    wide = _widened(x)
    total = jax.lax.reduce_window(wide * wide, np.zeros((), wide.dtype), jax.lax.add, window, strides, pads)
    return (wide * (k + alpha * total) ** -beta).astype(x.dtype)


def _widened(x: Array) -> Array:
    """In float32 at least."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
