"""Selection of the convolutions that the native kernels can compute, and compute faster than XLA.

jax expresses the gradients of a convolution as convolutions. The gradient of the images has a dilated input and swapped
kernel axes. The gradient of the kernel has batch and channels swapped. The selection recognizes them by this.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax import lax

Kernel = Literal["forward", "weight_gradient"]

SMALLEST = 1_000_000
"""The number of multiply-adds below which XLA's convolution is as fast, and no kernel is built."""
MOST_WEIGHTS = 1_000_000
"""The number of weights above which XLA's weight gradient is faster. With 512 x 512 x 3 x 3 weights on 7 x 7 images XLA
was 2.3 times as fast; with 256 x 256 x 3 x 3 the native kernel was 1.5 times as fast."""
FEW_CHANNELS = 32
"""The number of input or output channels up to which the forward kernel is faster; from 64 on both are equal."""
LARGEST_IMAGE = 2**18
"""The number of values per image above which the image exceeds the L2 cache and the forward kernel is slower."""

_IMAGES = (0, 3, 1, 2)
_HWIO, _HWOI = (3, 2, 0, 1), (2, 3, 0, 1)
_SWAPPED = (3, 0, 1, 2)


@dataclasses.dataclass(frozen=True)
class KernelCall:
    """A call of a native kernel.

    Attributes:
      kernel: the kernel's name.
      attributes: the call's attributes, as numpy scalars.
    """

    kernel: Kernel
    attributes: Mapping[str, Any]


def choose_kernel(lhs: Any, rhs: Any, out: Any, **params: Any) -> KernelCall | None:
    """Return the kernel call for a convolution of `lhs` and `rhs` to `out`, or None to use XLA.

    Args:
      lhs: the abstract value of the left operand.
      rhs: the abstract value of the right operand.
      out: the abstract value of the result.
      params: the primitive's parameters.
    """
    if any(x.dtype != np.float32 or x.ndim != 4 or 0 in x.shape for x in (lhs, rhs, out)):
        return None
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    strides, dilations, padding = params["window_strides"], params["lhs_dilation"], params["padding"]
    if any(pads[0] < 0 for pads in padding) or not all(len(set(x)) == 1 for x in (strides, dilations)):
        return None
    pads = {"pad_top": np.int64(padding[0][0]), "pad_left": np.int64(padding[1][0])}
    spec = params["dimension_numbers"]
    if _is_weight_gradient(spec, params):
        return _weight_gradient(lhs, rhs, out, params["rhs_dilation"], pads)
    if spec.lhs_spec == spec.out_spec == _IMAGES and spec.rhs_spec in (_HWIO, _HWOI):
        return _forward(lhs, rhs, out, params, pads)
    return None


def _is_weight_gradient(spec: lax.ConvDimensionNumbers, params: Mapping[str, Any]) -> bool:
    is_swapped = spec.lhs_spec == spec.rhs_spec == _SWAPPED and spec.out_spec == _HWOI
    steps = {*params["window_strides"], *params["lhs_dilation"]}
    return is_swapped and steps == {1} and len(set(params["rhs_dilation"])) == 1


def _weight_gradient(x: Any, dy: Any, out: Any, strides: tuple[int, ...], pads: Mapping[str, Any]) -> KernelCall | None:
    if out.size > MOST_WEIGHTS or dy.size * out.size // out.shape[3] < SMALLEST:
        return None
    return KernelCall("weight_gradient", {"stride": np.int64(strides[0]), **pads})


def _forward(x: Any, kernel: Any, out: Any, params: Mapping[str, Any], pads: Mapping[str, Any]) -> KernelCall | None:
    stride, dilation = params["window_strides"][0], params["lhs_dilation"][0]
    if stride > 2 or min(stride, dilation) > 1 or set(params["rhs_dilation"]) != {1}:
        return None
    swapped = params["dimension_numbers"].rhs_spec == _HWOI
    is_narrow = min(kernel.shape[2:]) <= FEW_CHANNELS
    if kernel.size == kernel.shape[2] * kernel.shape[3] or not (is_narrow or swapped):
        return None
    if x.size // x.shape[0] > LARGEST_IMAGE or out.size * kernel.size // out.shape[3] // dilation**2 < SMALLEST:
        return None
    return KernelCall(
        "forward", {"stride": np.int64(stride), "dilation": np.int64(dilation), "swapped": swapped, **pads}
    )
