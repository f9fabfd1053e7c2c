"""Peak speeds of devices: measured by a matrix multiplication and an elementwise operation, and by data sheets."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_CALLS = 5


class DataSheetPeaks(NamedTuple):
    """The peak speeds in a device's data sheet.

    Attributes:
      half_tflops: TFLOP/s of dense matrix multiplications in bfloat16, or float16 where there is no bfloat16.
      float_tflops: TFLOP/s of float32 without tensor cores; None where there are none.
      gigabytes: memory bandwidth in GB/s.
    """

    half_tflops: float
    float_tflops: float | None
    gigabytes: float


DATA_SHEETS: dict[str, DataSheetPeaks] = {
    # NVIDIA's data sheets, without sparsity; the SXM version where there are several
    "NVIDIA H200": DataSheetPeaks(989.4, 66.9, 4800),
    "NVIDIA H100 80GB HBM3": DataSheetPeaks(989.4, 66.9, 3350),
    "NVIDIA H100 PCIe": DataSheetPeaks(756.0, 51.2, 2000),
    "NVIDIA A100-SXM4-80GB": DataSheetPeaks(312.0, 19.5, 2039),
    "NVIDIA A100-SXM4-40GB": DataSheetPeaks(312.0, 19.5, 1555),
    "NVIDIA L4": DataSheetPeaks(121.0, 30.3, 300),
    "Tesla V100-SXM2-16GB": DataSheetPeaks(125.0, 15.7, 900),
    "Tesla T4": DataSheetPeaks(65.0, 8.1, 320),
    # cloud.google.com/tpu/docs, the page of each version
    "TPU v3": DataSheetPeaks(123.0, None, 900),
    "TPU v4": DataSheetPeaks(275.0, None, 1228),
    "TPU v5 lite": DataSheetPeaks(197.0, None, 819),
    "TPU v5": DataSheetPeaks(459.0, None, 2765),
    "TPU v6 lite": DataSheetPeaks(918.0, None, 1640),
}
"""Data-sheet values by `device_kind`."""


class MeasuredPeaks(NamedTuple):
    """The measured peak speeds of one device.

    Attributes:
      flops: FLOP/s of a multiplication of square matrices, by dtype.
      bandwidth: bytes per second that an elementwise operation reads and writes.
    """

    flops: dict[str, float]
    bandwidth: float


def measure_peaks(device: Any) -> MeasuredPeaks:
    """Measure `device`: the best of several runs, with sizes that take tens of milliseconds each."""
    on_cpu = device.platform == "cpu"
    side, count = (1024, 1 << 24) if on_cpu else (8192, 1 << 28)
    matmul = jax.jit(jnp.matmul)
    flops = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jax.device_put(jnp.ones((side, side), dtype), device)
        flops[jnp.dtype(dtype).name] = 2 * side**3 / _min_seconds(matmul, x, x)
    array = jax.device_put(jnp.ones(count, jnp.float32), device)
    return MeasuredPeaks(flops, 2 * array.nbytes / _min_seconds(jax.jit(jnp.negative), array))


def _min_seconds(function: Callable[..., jax.Array], *args: jax.Array) -> float:
    """Return the seconds of the fastest of several calls, after a first one that compiles."""
    function(*args).block_until_ready()
    seconds = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        function(*args).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
