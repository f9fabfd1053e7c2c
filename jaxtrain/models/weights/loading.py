"""Variables of a model from a file of weights, with every name and shape accounted for."""

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
from jaxtrain.models.weights.match import fitted
from jaxtrain.models.weights.name_maps import Naming, Source, named, recognized, renamed, unwrapped
from jaxtrain.models.weights.name_rules import module_of
from jaxtrain.models.weights.report import LoadReport
from jaxtrain.models.weights.resize import Adapting, FirstConv, FirstDense, Positions
from jaxtrain.models.weights.tracing import Anatomy, Image, anatomy

Head = Literal["strict", "new", "zeros"]
"""Where the last layer, and those of auxiliary heads, come from: the file, the model's initialization, or zeros."""


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
    """Variables for `model.apply` from a `.safetensors` or `.npz` file, in the model's own dtypes.

    Args:
      source: path of the file, or its arrays by name.
      model: of this package.
      input_shape: height, width and channels of its images.
      naming: whose names the file has; "auto" finds out.
      head: "new" initializes the layers that give logits anew, for other classes, and "zeros" with zeros; those of the
        file are left out.
      first_conv: "adapt" sums or repeats the first kernel where the file's is for another number of channels.
      first_dense: "pooled" fits a dense layer that sees a flattened feature map to one of another size, as if the map
        were first pooled to the old size, which is what torchvision's VGG and AlexNet do.
      positions: a convention of bicubic interpolation, for a vision transformer's positions of another image size.
      key: for a new head; `jax.random.key(0)` by default.

    Returns:
      The variables, and what became of every name.

    Raises:
      WeightsError: for a file that cannot be read, and for one that does not fit, with all that does not.
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
    arrays, wrapper = unwrapped(arrays)
    seen = anatomy(model, input_shape)
    table = recognized(model, seen, arrays, title) if naming == "auto" else named(model, seen, naming)
    unwanted = frozenset(path for path in seen.shapes if head != "strict" and of_head(path))
    adapting = Adapting(first_conv, positions, first_dense)
    fit = fitted(table, Source(title, arrays, renamed(arrays, table.family)), seen, unwanted, adapting)
    values = {**fit.values, **_head(model, seen, unwanted, zeros=head == "zeros", key=key)}
    variables = {path: jnp.asarray(values[path]) for path in seen.shapes}
    used = set(fit.names.values())
    notes = [table.family.caveat(model) if table.family else "", f"{wrapper!r} before every name" if wrapper else ""]
    report = LoadReport(
        naming=table.naming,
        loaded=fit.names,
        adapted=fit.adapted,
        new=tuple(sorted(unwanted)),
        left_out=tuple(name for name in arrays if name not in used),
        notes=tuple(note for note in notes if note),
    )
    return traverse_util.unflatten_dict(variables, sep="/"), report


def of_head(path: str) -> bool:
    """Whether a variable belongs to a layer that gives logits."""
    return module_of(path).rpartition("/")[2] == "logits"


def _head(
    model: nn.Module, seen: Anatomy, paths: Collection[str], *, zeros: bool, key: jax.Array | None
) -> Mapping[str, Any]:
    """Their initial values; the compiler drops whatever they do not depend on."""
    if zeros:
        return {path: np.zeros(seen.shapes[path].shape, seen.shapes[path].dtype) for path in paths}
    if not paths:
        return {}

    @jax.jit
    def init(key: jax.Array) -> Mapping[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, *seen.image), jnp.float32), train=False)
        flat = traverse_util.flatten_dict(variables, sep="/")
        return {path: flat[path] for path in paths}

    return init(jax.random.key(0) if key is None else key)
