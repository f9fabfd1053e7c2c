"""Which names a file has: found for a model among the tables, and recognized in a file."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Literal, get_args

import numpy as np
from flax import linen as nn

from jaxtrain.errors import WeightsError
from jaxtrain.models.weights.axis_order import Entry, Part
from jaxtrain.models.weights.library_names import FAMILIES
from jaxtrain.models.weights.name_rules import Family
from jaxtrain.models.weights.tracing import Anatomy

Naming = Literal["jaxtrain", "torchvision", "timm", "akamaster"]
"""Whose names a file has: our paths, or another library's."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, `torch.compile` and frameworks put before every name."""


@dataclasses.dataclass(frozen=True)
class Named:
    """The arrays that a file of a naming has for a model.

    Attributes:
      naming: whose names.
      entries: the arrays.
      family: the table; nothing for our own names.
    """

    naming: Naming
    entries: tuple[Entry, ...]
    family: Family | None = None

    def names(self) -> set[str]:
        """Of the arrays."""
        return {entry.name for entry in self.entries}


def family_of(model: nn.Module, naming: Naming) -> Family | None:
    """The table of names for a model, if the library has such a network."""
    for family in FAMILIES.get(naming, ()):
        if isinstance(model, family.model) and family.serves(model):
            return family
    return None


def named(model: nn.Module, anatomy: Anatomy, naming: Naming) -> Named:
    """The arrays of a naming for a model.

    Raises:
      WeightsError: where the library has no such network, or no name for one of the variables.
    """
    if naming == "jaxtrain":
        parts = (Part(path, x.shape, seen=anatomy.flattened.get(path)) for path, x in anatomy.shapes.items())
        return Named(naming, tuple(Entry(part.path, (part,)) for part in parts))
    family = family_of(model, naming)
    if family is None:
        raise WeightsError(
            f"{naming} has no {type(model).__name__} of this kind, and so no names for it; "
            f"there are names of {', '.join(known_namings(model))}"
        )
    entries, nameless = family.entries(model, anatomy)
    if nameless:
        raise WeightsError(
            f"{family.title} has no {', '.join(nameless[:10])}{' and others' if len(nameless) > 10 else ''}: "
            "the model has an option that is not there; use naming='jaxtrain'"
        )
    return Named(naming, tuple(entries), family)


def known_namings(model: nn.Module) -> list[Naming]:
    """Those that there are for a model, ours first."""
    return [naming for naming in get_args(Naming) if naming == "jaxtrain" or family_of(model, naming)]


def recognized(model: nn.Module, anatomy: Anatomy, names: Collection[str], source: str) -> Named:
    """The naming of a file that has most of its names in common with the model.

    Raises:
      WeightsError: where none has any; with what the file seems to be.
    """
    candidates = []
    for naming in known_namings(model):
        try:
            candidates.append(named(model, anatomy, naming))
        except WeightsError:  # an option of the model that the library lacks
            continue
    best = max(candidates, key=lambda c: len(c.names() & renamed(names, c.family).keys()))
    common = len(best.names() & renamed(names, best.family).keys())
    others = [title for title in networks(names) if not (best.family and title == best.family.title)]
    if not common or (others and 2 * common < len(best.names())):
        seems = f"it seems to be {' or '.join(others)}" if others else f"its names are {_some(names)}"
        raise WeightsError(
            f"{source} is of another network than the model, a {type(model).__name__}: {seems}. "
            f"For the model there are names of {', '.join(c.naming for c in candidates)}"
        )
    return best


@dataclasses.dataclass(frozen=True)
class Source:
    """What a file holds, by the names that the newest release of a library has.

    Attributes:
      title: of the file, for messages.
      arrays: by their own names.
      own: their own name for each of the newest.
    """

    title: str
    arrays: Mapping[str, np.ndarray]
    own: Mapping[str, str]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[self.own[name]]


def renamed(names: Collection[str], family: Family | None) -> dict[str, str]:
    """The names of a file as the newest release has them, each with its own."""
    found = {}
    for name in names:
        new = name
        for pattern, replacement in family.older if family else ():
            new = re.sub(f"^{pattern}$", replacement, new)
        found[new] = name
    return found


def unwrapped(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """The arrays without what stands before all names, and what that was."""
    found, removed = dict(arrays), ""
    while prefix := next((w for w in _WRAPPERS if all(name.startswith(w) for name in found)), ""):
        found = {name.removeprefix(prefix): array for name, array in found.items()}
        removed += prefix
    return found, removed


def networks(names: Collection[str]) -> list[str]:
    """What networks the names are of."""
    known = {f.title: f.sign for families in FAMILIES.values() for f in families}
    found = [title for title, sign in known.items() if sign in names]
    if any(name.startswith("params/") for name in names):
        found.append("a network saved with the names of this package")
    return found


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
