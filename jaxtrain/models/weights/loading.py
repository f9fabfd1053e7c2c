"""Loading the variables of a model from a weight file; every name and shape is checked."""

import os
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.errors import WeightsError, did_you_mean
from jaxtrain.models.weights.files import read_arrays
from jaxtrain.models.weights.match import match_arrays
from jaxtrain.models.weights.name_maps import (
    Naming,
    SourceArrays,
    build_name_map,
    current_names,
    detect_naming,
    strip_prefixes,
)
from jaxtrain.models.weights.name_rules import module_path
from jaxtrain.models.weights.report import LoadReport
from jaxtrain.models.weights.resize import FirstConv, FirstDense, Positions, ResizeOptions
from jaxtrain.models.weights.tracing import Image, ModelTrace, trace_model

Head = Literal["strict", "new", "zeros"]
"""Source of the layers that return logits, auxiliary ones included: the file, the model's initialization, or zeros."""


def load_weights(
    source: str | os.PathLike[str] | Mapping[str, np.ndarray],
    model: nn.Module,
    input_shape: Image,
    *,
    naming: Naming | Literal["auto"] = "auto",
    head: Head = "strict",
    first_conv: FirstConv = "strict",
    first_dense: FirstDense = "strict",
    positions: Positions = "strict",
    key: jax.Array | None = None,
) -> tuple[dict[str, Any], LoadReport]:
    """Load variables for `model.apply` from a `.safetensors` or `.npz` file, in the dtypes of the model.

    Args:
      source: path of the file, or arrays by name.
      model: a model of this package.
      input_shape: height, width and channels of the images.
      naming: library whose names the file has; "auto" detects it.
      head: "strict" loads the layers that return logits; "new" initializes them, for other classes; "zeros" sets them
        to zero. The last two ignore the file's head.
      first_conv: "adapt" sums or repeats the input channels of the first kernel for another number of channels.
      first_dense: "pooled" converts a dense layer on a flattened feature map of another size. The result equals
        pooling the map to the old size first, as torchvision's VGG and AlexNet do.
      positions: convention of the bicubic interpolation of a vision transformer's positions for another image size.
      key: random key of a new head; `jax.random.key(0)` by default.

    Returns:
      The variables, and a report of what happened to every name.

    Raises:
      WeightsError: if the file cannot be read or does not fit the model; the message lists every difference.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain, numpy as np
      >>> from jaxtrain.models.weights import load_weights
      >>> model = jaxtrain.models.linear(num_classes=3)
      >>> arrays = {"params/logits/kernel": np.ones((4, 3)), "params/logits/bias": np.zeros(3)}
      >>> variables, report = load_weights(arrays, model, (2, 2, 1))
      >>> print(report)
      2 variables loaded, with the names of jaxtrain
    """
    for option, value, choices in (
        ("naming", naming, ("auto", *get_args(Naming))),
        ("head", head, get_args(Head)),
        ("first_conv", first_conv, get_args(FirstConv)),
        ("first_dense", first_dense, get_args(FirstDense)),
        ("positions", positions, get_args(Positions)),
    ):
        if value not in choices:
            raise WeightsError(f"there is no {option}={value!r}{did_you_mean(value, choices)}")
    if isinstance(source, Mapping):
        arrays, title = dict(source), "the mapping of arrays"
    else:
        arrays, title = read_arrays(source), str(source)
    arrays, wrapper = strip_prefixes(arrays)
    trace = trace_model(model, input_shape)
    table = detect_naming(model, trace, arrays, title) if naming == "auto" else build_name_map(model, trace, naming)
    unwanted = frozenset(path for path in trace.shapes if head != "strict" and is_head_variable(path))
    adapting = ResizeOptions(first_conv, positions, first_dense)
    fit = match_arrays(
        table, SourceArrays(title, arrays, current_names(arrays, table.family)), trace, unwanted, adapting
    )
    values = {**fit.values, **_initialize_head(model, trace, unwanted, zeros=head == "zeros", key=key)}
    variables = {path: jnp.asarray(values[path]) for path in trace.shapes}
    used = set(fit.names.values())
    notes = [
        table.family.caveat(model) if table.family else "",
        f"every name had the prefix {wrapper!r}" if wrapper else "",
    ]
    report = LoadReport(
        naming=table.naming,
        loaded=fit.names,
        adapted=fit.adapted,
        new=tuple(sorted(unwanted)),
        left_out=tuple(name for name in arrays if name not in used),
        notes=tuple(note for note in notes if note),
    )
    return traverse_util.unflatten_dict(variables, sep="/"), report


def is_head_variable(path: str) -> bool:
    """Return whether a variable belongs to a layer that returns logits."""
    return module_path(path).rpartition("/")[2] == "logits"


def _initialize_head(
    model: nn.Module, trace: ModelTrace, paths: Collection[str], *, zeros: bool, key: jax.Array | None
) -> Mapping[str, Any]:
    """Return the initial values of the variables at `paths`; the compiler drops all other computation."""
    if zeros:
        return {path: np.zeros(trace.shapes[path].shape, trace.shapes[path].dtype) for path in paths}
    if not paths:
        return {}

    @jax.jit
    def init(key: jax.Array) -> Mapping[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, *trace.image), jnp.float32), train=False)
        flat = traverse_util.flatten_dict(variables, sep="/")
        return {path: flat[path] for path in paths}

    return init(jax.random.key(0) if key is None else key)
