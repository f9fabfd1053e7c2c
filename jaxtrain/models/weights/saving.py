"""Variables of a model to a file of weights."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.models.weights.files import write_arrays
from jaxtrain.models.weights.name_maps import Naming, named
from jaxtrain.models.weights.report import Problems
from jaxtrain.models.weights.tracing import Image, anatomy


def save_weights(
    path: str | os.PathLike[str],
    model: nn.Module,
    input_shape: Image,
    variables: Mapping[str, Any],
    *,
    naming: Naming = "jaxtrain",
) -> None:
    """Writes parameters and statistics to a `.safetensors` or `.npz` file.

    torch's `load_state_dict(strict=True)` takes what has its names; counters of batches, which it does not ask for, are
    not written.

    Args:
      path: of the file.
      model: of this package.
      input_shape: height, width and channels of its images, on which the order of the first dense layer's rows depends.
      variables: as `model.init` gives them.
      naming: whose names and layouts.

    Raises:
      WeightsError: for variables of another model, a library without such a network, and a file that cannot be written.
    """
    arrays = arrays_of(model, input_shape, variables, naming=naming)
    write_arrays(path, arrays, layout="flax" if naming == "jaxtrain" else "pt")


def arrays_of(
    model: nn.Module, input_shape: Image, variables: Mapping[str, Any], *, naming: Naming = "jaxtrain"
) -> dict[str, np.ndarray]:
    """The arrays that `save_weights` writes, by name."""
    seen = anatomy(model, input_shape)
    table = named(model, seen, naming)
    flat = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(dict(variables), sep="/").items()}
    problems = Problems(
        missing={path: path for path in seen.shapes if path not in flat},
        unexpected=[path for path in flat if path not in seen.shapes],
        mismatched={
            path: f"{flat[path].shape} in the variables and {x.shape} in the model"
            for path, x in seen.shapes.items()
            if path in flat and flat[path].shape != x.shape
        },
    )
    problems.raise_any("what is to be saved", "its variables")
    return {entry.name: entry.theirs(flat) for entry in table.entries}
