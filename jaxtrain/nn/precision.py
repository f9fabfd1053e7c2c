"""Types that statistics and decompositions are computed in."""

from typing import Any

import jax.numpy as jnp


def float32_at_least(dtype: Any) -> Any:
    """The type itself, or float32 where it has fewer bits."""
    return jnp.dtype(dtype) if jnp.dtype(dtype).itemsize >= 4 else jnp.dtype("float32")
