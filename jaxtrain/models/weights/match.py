"""Matching the arrays of a file to the variables of a model, with resizing where the caller asks for it."""

import dataclasses
import re
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np

from jaxtrain.models.weights.axis_order import FileArray, Shape
from jaxtrain.models.weights.name_maps import NameMap, SourceArrays
from jaxtrain.models.weights.name_rules import module_path
from jaxtrain.models.weights.report import Problems, is_counter
from jaxtrain.models.weights.resize import ResizeOptions
from jaxtrain.models.weights.tracing import ModelTrace


@dataclasses.dataclass
class MatchedVariables:
    """The variables of a model that a file provides.

    Attributes:
      values: values by path.
      names: names of the source arrays by path.
      adapted: descriptions of the resized variables by path.
    """

    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    adapted: dict[str, str] = dataclasses.field(default_factory=dict)


def match_arrays(
    table: NameMap, source: SourceArrays, trace: ModelTrace, unwanted: Collection[str], adapting: ResizeOptions
) -> MatchedVariables:
    """Return the variables of the model from a file, except the unwanted ones.

    Args:
      table: the arrays that a file for the model has.
      source: the arrays of the file.
      trace: trace of the model with its variables.
      unwanted: paths of variables that do not come from the file.
      adapting: kinds of resizing that the caller allows.

    Raises:
      WeightsError: if a name is missing or unknown, or an array has another shape or dtype; it lists all of them.
    """
    fit, problems = MatchedVariables(), Problems()
    for entry in table.entries:
        paths = [part.path for part in entry.parts]
        if any(path in unwanted for path in paths):
            continue
        if entry.name not in source.own:
            problems.missing.update(dict.fromkeys(paths, entry.name))
            continue
        variables = _convert_array(entry, source[entry.name], trace, adapting, problems, fit)
        fit.names.update(dict.fromkeys(variables, source.own[entry.name]))
        for path, value in variables.items():
            fit.values[path] = _cast(path, value, trace, problems)
    known, optional = table.names(), table.family.optional if table.family else r"(?!)"
    problems.unexpected = [
        own
        for name, own in source.own.items()
        if name not in known and not is_counter(name) and not re.fullmatch(optional, name)
    ]
    _advise(problems, trace)
    what = table.family.title if table.family else "a file of this package"
    problems.raise_any(source.title, f"{what} with the names of {table.naming}")
    return fit


def _convert_array(
    entry: FileArray,
    array: np.ndarray,
    trace: ModelTrace,
    adapting: ResizeOptions,
    problems: Problems,
    fit: MatchedVariables,
) -> dict[str, np.ndarray]:
    """Return the variables of one array by path; if it does not fit, return none and add the reason to `problems`."""
    path = entry.parts[0].path
    if not jnp.issubdtype(array.dtype, jnp.floating):
        problems.mismatched[path] = f"{entry.name} has dtype {array.dtype}, but weights must be floating-point"
        return {}
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    if wide.shape == entry.shape:
        return entry.ours(wide)
    adaptation = adapting.adaptation(entry, wide.shape, trace)
    if adaptation and adaptation.wanted:
        fit.adapted[path] = f"{adaptation.found}, converted to {adaptation.made}"
        return adaptation.ours(wide)
    problems.mismatched[path] = (
        f"{entry.name} is {_format_shape(array.shape)} in the file and {_format_shape(entry.shape)} in the model"
    )
    if adaptation:
        problems.advice[
            f"{entry.name} is {adaptation.found}: set {adaptation.setting} to convert it to {adaptation.made}."
        ] = None
    elif module_path(path).rpartition("/")[2] == "logits":
        problems.advice['For another number of classes set head="new" or head="zeros".'] = None
    return {}


def _cast(path: str, value: np.ndarray, trace: ModelTrace, problems: Problems) -> np.ndarray:
    """Cast a value to the dtype of the model; add values that are not finite to `problems`."""
    dtype = trace.shapes[path].dtype
    with np.errstate(over="ignore"):
        cast = value.astype(dtype, copy=False)
    finite = np.isfinite(cast)
    if not finite.all():
        count = cast.size - int(finite.sum())
        why = f"too large for {np.dtype(dtype).name}" if np.isfinite(value).all() else "not finite"
        problems.mismatched[path] = f"{count} of its {cast.size} values are {why}"
    return cast


def _advise(problems: Problems, trace: ModelTrace) -> None:
    """Add advice on the likely cause of many differences to `problems`."""
    statistics = {path for path in trace.shapes if path.startswith("batch_stats/")}
    if not statistics and any(name.endswith(("running_mean", "/mean")) for name in problems.unexpected):
        problems.advice["The file has batch normalization but the model has none: set the model's norm to 'batch'."] = (
            None
        )
    elif statistics and statistics <= problems.missing.keys():
        problems.advice["The model has batch normalization but the file has none: set the model's norm to 'none'."] = (
            None
        )
    elif len(problems.missing) + len(problems.unexpected) > 8:
        problems.advice["The file is probably of a network of another depth or kind."] = None
    if any(path.startswith("params/auxiliary_") for path in problems.missing):
        problems.advice["The file has no auxiliary heads: build the model with auxiliary=False."] = None


def _format_shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single number"
