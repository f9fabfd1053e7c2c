"""How fast a device can be: measured by a product of matrices and by copying, and as its maker says."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_MEASUREMENTS = 5


class Peak(NamedTuple):
    """What a maker promises of a device: TFLOP/s of dense products (of bfloat16, or float16 where it has none), and of
    float32 without tensor cores (None where there is no such thing), and GB/s of its memory.
    """

    half_tflops: float
    float_tflops: float | None
    gigabytes: float


PUBLISHED: dict[str, Peak] = {
    # NVIDIA's data sheets, SXM where there are several; without sparsity.
    "NVIDIA H200": Peak(989.4, 66.9, 4800),
    "NVIDIA H100 80GB HBM3": Peak(989.4, 66.9, 3350),
    "NVIDIA H100 PCIe": Peak(756.0, 51.2, 2000),
    "NVIDIA A100-SXM4-80GB": Peak(312.0, 19.5, 2039),
    "NVIDIA A100-SXM4-40GB": Peak(312.0, 19.5, 1555),
    "NVIDIA L4": Peak(121.0, 30.3, 300),
    "Tesla V100-SXM2-16GB": Peak(125.0, 15.7, 900),
    "Tesla T4": Peak(65.0, 8.1, 320),
    # cloud.google.com/tpu/docs, the page of each version.
    "TPU v3": Peak(123.0, None, 900),
    "TPU v4": Peak(275.0, None, 1228),
    "TPU v5 lite": Peak(197.0, None, 819),
    "TPU v5": Peak(459.0, None, 2765),
    "TPU v6 lite": Peak(918.0, None, 1640),
}
"""By `device_kind`."""


class Ceilings(NamedTuple):
    """What one device was measured to do.

    Attributes:
      flops: by dtype, FLOP/s of a square product.
      bandwidth: bytes read and written a second by an elementwise operation.
    """

    flops: dict[str, float]
    bandwidth: float


def measure_ceilings(device: Any) -> Ceilings:
    """Measures `device`: the best of a few times, with sizes that take it some tens of milliseconds."""
    on_cpu = device.platform == "cpu"
    side, count = (1024, 1 << 24) if on_cpu else (8192, 1 << 28)
    product = jax.jit(jnp.matmul)
    flops = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jax.device_put(jnp.ones((side, side), dtype), device)
        flops[jnp.dtype(dtype).name] = 2 * side**3 / _best(product, x, x)
    long = jax.device_put(jnp.ones(count, jnp.float32), device)
    return Ceilings(flops, 2 * long.nbytes / _best(jax.jit(jnp.negative), long))


def _best(function: Callable[..., jax.Array], *args: jax.Array) -> float:
    """Seconds of the fastest of some calls, the one that compiles left out."""
    function(*args).block_until_ready()
    seconds = []
    for _ in range(_MEASUREMENTS):
        began = time.perf_counter()
        function(*args).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
