"""Which convolutions the native kernels compute, and for which of those they are faster than XLA's.

jax writes the gradients of a convolution as convolutions: that of the images with a dilated input and the axes of the
kernel exchanged, that of the kernel with batch and channels exchanged. They are known by that.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax import lax

Kernel = Literal["forward", "weight_gradient"]

SMALLEST = 1_000_000
"""Multiply-adds below which XLA's convolution is as good, and no kernel is built."""
MOST_WEIGHTS = 1_000_000
"""Weights beyond which XLA's gradient of them is faster: it was by 2.3 times with 512 x 512 x 3 x 3 on images of 7 x 7,
while the kernel was by 1.5 times with 256 x 256 x 3 x 3."""
FEW_CHANNELS = 32
"""Input or output channels up to which the forward kernel is faster; from 64 on they are equal."""
LARGEST_IMAGE = 2**18
"""Numbers of an image beyond which it leaves the second cache, and the forward kernel is slower."""

_IMAGES = (0, 3, 1, 2)
_HWIO, _HWOI = (3, 2, 0, 1), (2, 3, 0, 1)
_EXCHANGED = (3, 0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Task:
    """A call of a native kernel.

    Attributes:
      kernel: which.
      attributes: of the call, as numpy's scalars.
    """

    kernel: Kernel
    attributes: Mapping[str, Any]


def task_of(lhs: Any, rhs: Any, out: Any, **params: Any) -> Task | None:
    """The call that computes a convolution of `lhs` and `rhs` to `out`, None where XLA is to do it.

    Args:
      lhs: the abstract value of the left operand.
      rhs: that of the right one.
      out: that of the result.
      params: of the primitive.
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
    exchanged = spec.lhs_spec == spec.rhs_spec == _EXCHANGED and spec.out_spec == _HWOI
    steps = {*params["window_strides"], *params["lhs_dilation"]}
    return exchanged and steps == {1} and len(set(params["rhs_dilation"])) == 1


def _weight_gradient(x: Any, dy: Any, out: Any, strides: tuple[int, ...], pads: Mapping[str, Any]) -> Task | None:
    if out.size > MOST_WEIGHTS or dy.size * out.size // out.shape[3] < SMALLEST:
        return None
    return Task("weight_gradient", {"stride": np.int64(strides[0]), **pads})


def _forward(x: Any, kernel: Any, out: Any, params: Mapping[str, Any], pads: Mapping[str, Any]) -> Task | None:
    stride, dilation = params["window_strides"][0], params["lhs_dilation"][0]
    if stride > 2 or min(stride, dilation) > 1 or set(params["rhs_dilation"]) != {1}:
        return None
    swapped = params["dimension_numbers"].rhs_spec == _HWOI
    few = min(kernel.shape[2:]) <= FEW_CHANNELS
    if kernel.size == kernel.shape[2] * kernel.shape[3] or not (few or swapped):
        return None
    if x.size // x.shape[0] > LARGEST_IMAGE or out.size * kernel.size // out.shape[3] // dilation**2 < SMALLEST:
        return None
    return Task("forward", {"stride": np.int64(stride), "dilation": np.int64(dilation), "swapped": swapped, **pads})
