"""Fully convolutional inference: a model on images larger than its training images, with dense layers as convolutions.

A dense layer on a flattened feature map of h x w x c is a convolution with a window of h x w: its kernel
[h * w * c, features] reshapes to [h, w, c, features]. On a larger feature map it returns one output for each window
position, and so do the layers after it: a map of class scores (Sermanet et al. 2014; Simonyan & Zisserman 2015,
section 3.2). Each score is the model's score of the image region under the window, up to padding at the edges.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.errors import WeightsError
from jaxtrain.models.weights.tracing import Image, trace_model
from jaxtrain.nn.folding import FoldedModel


def score_map(
    model: nn.Module | FoldedModel, variables: Mapping[str, Any], images: jax.Array, trained: Image
) -> jax.Array:
    """Return the class scores at all window positions: the logits of the model with its dense layers as convolutions.

    Only dense layers on a flattened feature map become convolutions; tracing the model for both image sizes finds them.
    A model that flattens no feature map, such as one with global average pooling, runs unchanged.

    Args:
      model: a Linen module `(images, *, train)`, or one with its batch normalization folded.
      variables: variables of the model for images of shape `trained`.
      images: images f32[N, H, W, C], at least as large as `trained`.
      trained: height, width and channels of the training images.

    Returns:
      Scores f[N, rows, columns, K]; logits f[N, K] if the model flattens nothing or the images have shape `trained`.

    Raises:
      ValueError: if the model cannot take images of this size.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.models.score_maps import score_map
      >>> model = jaxtrain.models.lenet5(num_classes=10)
      >>> init = lambda images: model.init(jax.random.key(0), images, train=False)
      >>> variables = jax.eval_shape(init, jnp.zeros((1, 32, 32, 1)))
      >>> run = lambda variables, images: score_map(model, variables, images, trained=(32, 32, 1))
      >>> jax.eval_shape(run, variables, jnp.zeros((1, 40, 48, 1))).shape  # windows every 4 pixels
      (1, 3, 5, 10)
    """
    whole, image = (model.model if isinstance(model, FoldedModel) else model), images.shape[1:]
    try:
        windows = trace_model(whole, trained).flattened if image != trained else {}
        maps = trace_model(whole, (image[0], image[1], image[2])).flattened if windows else {}
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
        return _apply_as_convolution(module, x.reshape(x.shape[0], *maps[path]), windows[path])

    with nn.intercept_methods(as_convolution):
        scores: Any = model.apply(dict(variables), images, train=False)
    result: jax.Array = scores
    return result


def mean_scores(
    model: nn.Module | FoldedModel, variables: Mapping[str, Any], images: jax.Array, trained: Image
) -> jax.Array:
    """Return the mean of `score_map` over all window positions: f[N, K]."""
    scores = score_map(model, variables, images, trained)
    return scores.mean(axis=tuple(range(1, scores.ndim - 1))) if scores.ndim > 2 else scores


def _apply_as_convolution(module: nn.Dense, x: jax.Array, window: Image) -> jax.Array:
    """Apply a dense layer at all window positions of `x[N, H, W, c]` -> `[N, H - h + 1, W - w + 1, features]`."""
    h, w, _ = window
    if x.shape[1] < h or x.shape[2] < w:
        raise ValueError(
            f"{module.name} needs a feature map of at least {h}x{w}, but these images give {x.shape[1]}x{x.shape[2]}; "
            "use images at least as large as the training images"
        )
    flat: jax.Array = module.get_variable("params", "kernel")
    dtype = module.dtype or flat.dtype
    kernel = flat.reshape(*window, module.features).astype(dtype)
    y = jax.lax.conv_general_dilated(
        x.astype(dtype), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if not module.has_variable("params", "bias"):
        return y
    # also where use_bias is false: folded batch normalization adds a bias
    bias: jax.Array = module.get_variable("params", "bias")
    return y + bias.astype(dtype).reshape(1, 1, 1, -1)
