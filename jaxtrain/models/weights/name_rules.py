"""What a table of names is made of: rules from our modules to another library's, read in both directions.

A rule is a pair such as `("stage{s}_block{b}/conv{i}", "layer{s}.{b-1}.conv{i}")`. A field in braces stands for a
number, or for a number and a letter, and `{b-1}` for the number less one. The right side names a module, to which the
leaf's name is added, `.weight` say, or, where it ends in an underscore, the beginning of a parameter's name.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from flax import linen as nn

from jaxtrain.models.weights.axis_order import Entry, Layout, Part, convolution, dense, same
from jaxtrain.models.weights.tracing import Anatomy

Rules = Sequence[tuple[str, str]]
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""Our leaves and torch's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The names that a library has for the networks of one of our classes.

    Attributes:
      title: of the network there, for messages.
      model: our class.
      rules: the table of modules; the first that fits counts. Modules with one name there are stacked in its order.
      numbered: more rules, where names there count the layers: from our modules, in the order of the network.
      parameters: those that belong to no layer, by path.
      sign: a name that files of such a network have and no others.
      older: regular expressions and what replaces them in names of earlier releases.
      optional: a regular expression of what a file may have and the model not.
      layouts: for modules that are not convolutions and dense layers there, by a regular expression.
      channels: for a model whose channels stand in another order there, that order by path and axis.
      caveat: what names and shapes do not show: a sentence, or nothing.
      serves: whether it holds for a model of the class.
    """

    title: str
    model: type[nn.Module]
    rules: Rules
    numbered: Callable[[Collection[str]], Rules] = lambda modules: ()
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sign: str
    older: Rules = ()
    optional: str = r"(?!)"
    layouts: Mapping[str, Layout] = dataclasses.field(default_factory=dict)
    channels: Callable[[Any, Anatomy], Mapping[str, Mapping[int, np.ndarray]]] = lambda model, anatomy: {}
    caveat: Callable[[Any], str] = lambda model: ""
    serves: Callable[[Any], bool] = lambda model: True

    def entries(self, model: nn.Module, anatomy: Anatomy) -> tuple[list[Entry], list[str]]:
        """The arrays of a file for all of the model's variables, and the variables that have no name there."""
        rules = [*self.rules, *self.numbered({module_of(path) for path in anatomy.shapes})]
        channels = self.channels(model, anatomy)
        parts: dict[str, list[tuple[int, Part]]] = {}
        nameless = []
        for path, found in anatomy.shapes.items():
            named = self._name(path, rules)
            if named is None:
                nameless.append(path)
                continue
            name, order = named
            layout = self._layout(path, len(found.shape))
            seen = anatomy.flattened.get(path)
            parts.setdefault(name, []).append((order, Part(path, found.shape, layout, seen, channels.get(path, {}))))
        stacked = {name: sorted(found, key=lambda pair: pair[0]) for name, found in parts.items()}
        return [Entry(name, tuple(part for _, part in found)) for name, found in stacked.items()], nameless

    def _name(self, path: str, rules: Rules) -> tuple[str, int] | None:
        """The name in a file, and which rule gave it."""
        module, leaf = module_of(path), path.rpartition("/")[2]
        if not module:
            return (self.parameters[leaf], 0) if leaf in self.parameters else None
        for order, (ours, theirs) in enumerate(rules):
            found = _pattern(ours).fullmatch(module)
            if found and leaf in LEAVES:
                name = _filled(theirs, found.groupdict())
                return name + ("" if name.endswith("_") else ".") + LEAVES[leaf], order
        return None

    def _layout(self, path: str, rank: int) -> Layout:
        for pattern, layout in self.layouts.items():
            if rank > 1 and re.fullmatch(pattern, module_of(path)):
                return layout
        return {4: convolution, 2: dense}.get(rank, same) if path.endswith("/kernel") else same


def module_of(path: str) -> str:
    """`stage1_block1/conv1` for `params/stage1_block1/conv1/kernel`."""
    return path.partition("/")[2].rpartition("/")[0]


@functools.cache
def _pattern(ours: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", ours)
    return re.compile(
        "".join(f"(?P<{piece}>[0-9]+[a-z]?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    )


def _filled(theirs: str, fields: Mapping[str, str]) -> str:
    def value(field: re.Match[str]) -> str:
        return str(int(fields[field[1]]) - 1) if field[2] else fields[field[1]]

    return re.sub(r"\{(\w+?)(-1)?\}", value, theirs)
