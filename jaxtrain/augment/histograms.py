"""Histograms of 256 levels for each channel, and lookup tables of 256 entries."""

import jax
import jax.numpy as jnp

from jaxtrain.augment.levels import nearest_levels


def histogram(image: jax.Array) -> jax.Array:
    """Return how often each level occurs in each channel of `image[H, W, C]`, int32[C, 256]; floats are rounded."""
    height, width, channels = image.shape
    channel = jnp.arange(channels, dtype=jnp.int32).reshape(1, 1, channels)
    indices = (channel * 256 + nearest_levels(image)).reshape(height * width * channels)
    counts = jnp.zeros(channels * 256, jnp.int32).at[indices].add(1, mode="promise_in_bounds")
    return counts.reshape(channels, 256)


def level_range(counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lowest and the highest level that occur, f32[1, 1, C] each."""
    low = jnp.argmax(counts > 0, axis=1)
    high = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1)
    return tuple(level.astype(jnp.float32).reshape(1, 1, -1) for level in (low, high))  # type: ignore[return-value]


def channel_means(counts: jax.Array) -> jax.Array:
    """Return f32[1, 1, C], the mean level of each channel."""
    level = jnp.arange(256, dtype=jnp.float32).reshape(1, 256)
    values = counts.astype(jnp.float32)
    return ((values * level).sum(axis=1) / values.sum(axis=1)).reshape(1, 1, -1)


def equalize_table(counts: jax.Array) -> jax.Array:
    """Return the table int32[C, 256] that flattens the histogram `counts`, by Pillow's integer formula.

    If no table can make it flatter, it maps every level to itself.
    """
    level = jnp.arange(256, dtype=jnp.int32).reshape(1, 256)
    last = jnp.where(level == jnp.where(counts > 0, level, 0).max(axis=1, keepdims=True), counts, 0)
    step = (counts - last).sum(axis=1, keepdims=True) // 255
    below = jnp.cumsum(counts, axis=1) - counts + step // 2
    return jnp.where(step > 0, jnp.minimum(below // jnp.maximum(step, 1), 255), level)


def apply_table(table: jax.Array, image: jax.Array) -> jax.Array:
    """Return the entries of `table` [C, 256] for the levels of `image[H, W, C]`, one for each value."""
    channels = image.shape[2]
    channel = jnp.arange(channels, dtype=jnp.int32).reshape(1, 1, channels)
    # XLA does not fuse a scatter, so the table is computed once. Otherwise a CPU computes it again for each value that
    # is looked up: a policy operation then takes 20 ms for 128 images of 32x32, instead of 12.
    every = jnp.arange(channels * 256, dtype=jnp.int32)
    zeros = jnp.zeros(channels * 256, table.dtype)
    written = zeros.at[every].set(
        table.reshape(channels * 256), mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True
    )
    return written.at[channel * 256 + nearest_levels(image)].get(mode="promise_in_bounds")
