"""Maps between the names in a file and the variables of a model, and detection of the library of a file."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Literal, get_args

import numpy as np
from flax import linen as nn

from jaxtrain.errors import WeightsError
from jaxtrain.models.weights.axis_order import FileArray, VariableLayout
from jaxtrain.models.weights.library_names import FAMILIES
from jaxtrain.models.weights.name_rules import Family
from jaxtrain.models.weights.tracing import ModelTrace

Naming = Literal["jaxtrain", "torchvision", "timm", "akamaster"]
"""Library whose names a file has; "jaxtrain" are our own paths."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""Prefixes that DataParallel, `torch.compile` and frameworks add to every name."""


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The arrays that a file has for a model under the names of one library.

    Attributes:
      naming: library of the names.
      entries: arrays of the file.
      family: naming rules of the library for this model; None for our own names.
    """

    naming: Naming
    entries: tuple[FileArray, ...]
    family: Family | None = None

    def names(self) -> set[str]:
        """Return the names of the arrays."""
        return {entry.name for entry in self.entries}


def find_family(model: nn.Module, naming: Naming) -> Family | None:
    """Return the naming rules of a library for a model, or None if the library has no such network."""
    for family in FAMILIES.get(naming, ()):
        if isinstance(model, family.model) and family.serves(model):
            return family
    return None


def build_name_map(model: nn.Module, anatomy: ModelTrace, naming: Naming) -> NameMap:
    """Return the arrays that a file has for a model under the names of a library.

    Raises:
      WeightsError: if the library has no such network, or no name for one of the variables.
    """
    if naming == "jaxtrain":
        parts = (VariableLayout(path, x.shape, seen=anatomy.flattened.get(path)) for path, x in anatomy.shapes.items())
        return NameMap(naming, tuple(FileArray(part.path, (part,)) for part in parts))
    family = find_family(model, naming)
    if family is None:
        raise WeightsError(
            f"{naming} has no {type(model).__name__} of this kind, so it has no names for the model; "
            f"set naming to {' or '.join(map(repr, available_namings(model)))}"
        )
    entries, nameless = family.entries(model, anatomy)
    if nameless:
        raise WeightsError(
            f"{family.title} has no {', '.join(nameless[:10])}{' and others' if len(nameless) > 10 else ''}: the model "
            f"has an option that {naming} lacks; use naming='jaxtrain'"
        )
    return NameMap(naming, tuple(entries), family)


def available_namings(model: nn.Module) -> list[Naming]:
    """Return the libraries that have names for a model, ours first."""
    return [naming for naming in get_args(Naming) if naming == "jaxtrain" or find_family(model, naming)]


def detect_naming(model: nn.Module, anatomy: ModelTrace, names: Collection[str], source: str) -> NameMap:
    """Return the name map of the library that shares most names with a file; of equal ones, the first in `Naming`.

    Raises:
      WeightsError: if no library matches; the message says what the file seems to be.
    """
    candidates = []
    for naming in available_namings(model):
        try:
            candidates.append(build_name_map(model, anatomy, naming))
        except WeightsError:  # the model has an option that the library lacks
            continue
    best = max(candidates, key=lambda c: len(c.names() & current_names(names, c.family).keys()))
    common = len(best.names() & current_names(names, best.family).keys())
    others = [title for title in identify_networks(names) if not (best.family and title == best.family.title)]
    if not common or (others and 2 * common < len(best.names())):
        seems = f"it seems to be {' or '.join(others)}" if others else f"its names are {_abbreviate(names)}"
        raise WeightsError(
            f"{source} is not of the model ({type(model).__name__}): {seems}. "
            f"Names for the model exist in {', '.join(c.naming for c in candidates)}"
        )
    return best


@dataclasses.dataclass(frozen=True)
class SourceArrays:
    """The arrays of a file, accessed by the names of the newest release of a library.

    Attributes:
      title: title of the file, for messages.
      arrays: arrays by their names in the file.
      own: names in the file by the names of the newest release.
    """

    title: str
    arrays: Mapping[str, np.ndarray]
    own: Mapping[str, str]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[self.own[name]]


def current_names(names: Collection[str], family: Family | None) -> dict[str, str]:
    """Return a map from the names of the newest release to the names in the file."""
    own = {}
    for name in names:
        new = name
        for pattern, replacement in family.older if family else ():
            new = re.sub(f"^{pattern}$", replacement, new)
        own[new] = name
    return own


def strip_prefixes(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Strip the prefixes that all names share (wrappers such as "module."); return the arrays and the prefix."""
    stripped, removed = dict(arrays), ""
    while prefix := next((w for w in _WRAPPERS if all(name.startswith(w) for name in stripped)), ""):
        stripped = {name.removeprefix(prefix): array for name, array in stripped.items()}
        removed += prefix
    return stripped, removed


def identify_networks(names: Collection[str]) -> list[str]:
    """Return titles of the networks that the names in a file may belong to."""
    known = {f.title: f.sign for families in FAMILIES.values() for f in families}
    titles = [title for title, sign in known.items() if sign in names]
    if any(name.startswith("params/") for name in names):
        titles.append("a network saved with the names of this package")
    return titles


def _abbreviate(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
