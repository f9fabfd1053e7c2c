"""Attention whose softmax is in float32 at least, whatever its products are in."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), for `nn.MultiHeadDotProductAttention`.

    Args:
      query: `[..., queries, heads, D]`, as the others of one dtype, which both products are in.
      key: `[..., keys, heads, D]`.
      value: `[..., keys, heads, D]`.

    Returns:
      `[..., queries, heads, D]`.
    """
    weights = nn.dot_product_attention_weights(
        query, key, deterministic=True, force_fp32_for_softmax=value.dtype.itemsize < 4
    )
    found: jax.Array = jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value)
    return found
