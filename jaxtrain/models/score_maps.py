"""A model at all places of an image that is larger than those it was trained on: dense layers as convolutions.

A dense layer that sees a flattened feature map of h x w x c is a convolution with a window of h x w, and its kernel
[h * w * c, features] is that convolution's, [h, w, c, features]. Applied to a larger map it gives a map of outputs,
one for each place of the window, and so do the layers after it: a map of class scores (Sermanet et al. 2014;
Simonyan & Zisserman 2015, section 3.2). Up to what padding adds at the edges of an image, each score is that of the
model applied to what the window sees.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.errors import WeightsError
from jaxtrain.models.weights.tracing import Image, anatomy
from jaxtrain.nn.folding import FoldedModel


def score_map(
    model: nn.Module | FoldedModel, variables: Mapping[str, Any], images: jax.Array, trained: Image
) -> jax.Array:
    """Class scores at all places: the logits of the model with its flattened dense layers as convolutions.

    Where a feature map is flattened is found by tracing the model for both sizes. A model that flattens none, one that
    ends in a global average, say, is applied as it is.

    Args:
      model: a Linen module, `(images, *, train)`, or that with its batch normalization folded.
      variables: for images of `trained`.
      images: f32[N, H, W, C], not smaller than those.
      trained: height, width and channels of the images for which the parameters were made.

    Returns:
      f[N, rows, columns, K], or the logits f[N, K] of a model that flattens nothing, or of images of `trained`.

    Raises:
      ValueError: for images that the model cannot take.
    """
    whole, image = (model.model if isinstance(model, FoldedModel) else model), images.shape[1:]
    try:
        windows = anatomy(whole, trained).flattened if image != trained else {}
        maps = anatomy(whole, (image[0], image[1], image[2])).flattened if windows else {}
    except WeightsError as error:
        raise ValueError(str(error)) from error

    def as_convolution(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module: Any = context.module
        path = "/".join(("params", *module.path, "kernel"))
        if context.method_name != "__call__" or path not in windows or path not in maps:
            return call(*args, **kwargs)
        x: jax.Array = next(iter((*args, *kwargs.values())))
        if x.shape[1:] != (math.prod(maps[path]),):
            return call(*args, **kwargs)
        return _convolved(module, x.reshape(x.shape[0], *maps[path]), windows[path])

    with nn.intercept_methods(as_convolution):
        scores: Any = model.apply(dict(variables), images, train=False)
    found: jax.Array = scores
    return found


def mean_scores(
    model: nn.Module | FoldedModel, variables: Mapping[str, Any], images: jax.Array, trained: Image
) -> jax.Array:
    """`score_map` averaged over the places: f[N, K]."""
    scores = score_map(model, variables, images, trained)
    return scores.mean(axis=tuple(range(1, scores.ndim - 1))) if scores.ndim > 2 else scores


def _convolved(module: nn.Dense, x: jax.Array, window: Image) -> jax.Array:
    """The dense layer on the map `x[N, H, W, c]` at all places of its window: `[N, H - h + 1, W - w + 1, features]`."""
    h, w, _ = window
    if x.shape[1] < h or x.shape[2] < w:
        raise ValueError(
            f"{module.name} sees a feature map of {h}x{w}, and of these images it is {x.shape[1]}x{x.shape[2]}: at all "
            "places means those of an image that is no smaller than in training"
        )
    flat: jax.Array = module.get_variable("params", "kernel")
    dtype = module.dtype or flat.dtype
    kernel = flat.reshape(*window, module.features).astype(dtype)
    y = jax.lax.conv_general_dilated(
        x.astype(dtype), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if not module.has_variable("params", "bias"):
        return y
    # one that a folded normalization has left is here, too
    bias: jax.Array = module.get_variable("params", "bias")
    return y + bias.astype(dtype).reshape(1, 1, 1, -1)
