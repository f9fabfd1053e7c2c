"""The arrays of a file held to a model's variables: what fits, what is made to fit, and what does not."""

import dataclasses
import re
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np

from jaxtrain.models.weights.axis_order import Entry, Shape
from jaxtrain.models.weights.name_maps import Named, Source
from jaxtrain.models.weights.name_rules import module_of
from jaxtrain.models.weights.report import Problems, is_counter
from jaxtrain.models.weights.resize import Adapting
from jaxtrain.models.weights.tracing import Anatomy


@dataclasses.dataclass
class Fitted:
    """Variables of a model from a file.

    Attributes:
      values: by path.
      names: of the arrays that they come from, by path.
      adapted: what was done to those of another shape, by path.
    """

    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    adapted: dict[str, str] = dataclasses.field(default_factory=dict)


def fitted(table: Named, source: Source, seen: Anatomy, unwanted: Collection[str], adapting: Adapting) -> Fitted:
    """The variables of the model but for the unwanted ones.

    Raises:
      WeightsError: if a name is missing or unknown, or an array has another shape or kind; with all of them.
    """
    fit, problems = Fitted(), Problems()
    for entry in table.entries:
        paths = [part.path for part in entry.parts]
        if any(path in unwanted for path in paths):
            continue
        if entry.name not in source.own:
            problems.missing.update(dict.fromkeys(paths, entry.name))
            continue
        found = _found(entry, source[entry.name], seen, adapting, problems, fit)
        fit.names.update(dict.fromkeys(found, source.own[entry.name]))
        for path, value in found.items():
            fit.values[path] = _cast(path, value, seen, problems)
    known, optional = table.names(), table.family.optional if table.family else r"(?!)"
    problems.unexpected = [
        own
        for name, own in source.own.items()
        if name not in known and not is_counter(name) and not re.fullmatch(optional, name)
    ]
    _advise(problems, seen)
    what = table.family.title if table.family else "a file of this package"
    problems.raise_any(source.title, f"{what}, with the names of {table.naming}")
    return fit


def _found(
    entry: Entry, array: np.ndarray, seen: Anatomy, adapting: Adapting, problems: Problems, fit: Fitted
) -> dict[str, np.ndarray]:
    """The variables of one array, or none, and the reason among the problems."""
    path = entry.parts[0].path
    if not jnp.issubdtype(array.dtype, jnp.floating):
        problems.mismatched[path] = f"{entry.name} is of {array.dtype}, and weights are floating point numbers"
        return {}
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    if wide.shape == entry.shape:
        return entry.ours(wide)
    adaptation = adapting.adaptation(entry, wide.shape, seen)
    if adaptation and adaptation.wanted:
        fit.adapted[path] = f"{adaptation.found}, made {adaptation.made}"
        return adaptation.ours(wide)
    problems.mismatched[path] = f"{entry.name} is {_by(array.shape)} in the file and {_by(entry.shape)} in the model"
    if adaptation:
        problems.advice[
            f"{entry.name} is {adaptation.found}: set {adaptation.setting} to make it {adaptation.made}."
        ] = None
    elif module_of(path).rpartition("/")[2] == "logits":
        problems.advice['For another number of classes set head="new" or head="zeros".'] = None
    return {}


def _cast(path: str, value: np.ndarray, seen: Anatomy, problems: Problems) -> np.ndarray:
    """In the model's dtype."""
    dtype = seen.shapes[path].dtype
    with np.errstate(over="ignore"):
        cast = value.astype(dtype, copy=False)
    sound = np.isfinite(cast)
    if not sound.all():
        broken = cast.size - int(sound.sum())
        finite = np.isfinite(value).all()
        why = f"too large for {np.dtype(dtype).name}" if finite else "not finite"
        problems.mismatched[path] = f"{broken} of its {cast.size} numbers are {why}"
    return cast


def _advise(problems: Problems, seen: Anatomy) -> None:
    """What many differences together mean."""
    statistics = {path for path in seen.shapes if path.startswith("batch_stats/")}
    if not statistics and any(name.endswith(("running_mean", "/mean")) for name in problems.unexpected):
        problems.advice["The file has batch normalization and the model has none."] = None
    elif statistics and statistics <= problems.missing.keys():
        problems.advice["The model has batch normalization and the file has none."] = None
    elif len(problems.missing) + len(problems.unexpected) > 8:
        problems.advice["It is likely a network of another depth or kind."] = None
    if any(path.startswith("params/auxiliary_") for path in problems.missing):
        problems.advice["Without auxiliary heads in the file, make the model with auxiliary=False."] = None


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single number"
