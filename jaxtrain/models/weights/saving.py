"""Saving the variables of a model to a weight file."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.models.weights.files import write_arrays
from jaxtrain.models.weights.name_maps import Naming, build_name_map
from jaxtrain.models.weights.report import Problems
from jaxtrain.models.weights.tracing import Image, trace_model


def save_weights(
    path: str | os.PathLike[str],
    model: nn.Module,
    input_shape: Image,
    variables: Mapping[str, Any],
    *,
    naming: Naming = "jaxtrain",
) -> None:
    """Write parameters and batch statistics to a `.safetensors` or `.npz` file.

    torch's `load_state_dict(strict=True)` accepts the result under the names of a torch library. Batch counters are not
    written, since torch does not require them.

    Args:
      path: path of the file.
      model: a model of this package.
      input_shape: height, width and channels of the images; the row order of the first dense kernel depends on it.
      variables: variables of the model, as `model.init` returns them.
      naming: library whose names and layouts the file gets.

    Raises:
      WeightsError: if the variables are not those of the model, the library has no such network, or the file cannot be
        written.
    """
    arrays = export_arrays(model, input_shape, variables, naming=naming)
    write_arrays(path, arrays, layout="flax" if naming == "jaxtrain" else "pt")


def export_arrays(
    model: nn.Module, input_shape: Image, variables: Mapping[str, Any], *, naming: Naming = "jaxtrain"
) -> dict[str, np.ndarray]:
    """Return the arrays that `save_weights` writes, by name."""
    trace = trace_model(model, input_shape)
    table = build_name_map(model, trace, naming)
    flat = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(dict(variables), sep="/").items()}
    problems = Problems(
        missing={path: path for path in trace.shapes if path not in flat},
        unexpected=[path for path in flat if path not in trace.shapes],
        mismatched={
            path: f"{flat[path].shape} in the variables and {x.shape} in the model"
            for path, x in trace.shapes.items()
            if path in flat and flat[path].shape != x.shape
        },
    )
    problems.raise_any("the mapping of variables", "variables of the model")
    return {entry.name: entry.theirs(flat) for entry in table.entries}
