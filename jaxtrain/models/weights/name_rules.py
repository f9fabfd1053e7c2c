"""Rules that map the names of our modules to those of another library.

A rule is a pair such as `("stage{s}_block{b}/conv{i}", "layer{s}.{b-1}.conv{i}")`. A field in braces matches a number,
or a number and a letter; `{b-1}` is the number minus one. The right side is the name of a module, and the name of the
leaf follows, such as `.weight`. If it ends in an underscore, the leaf follows without a dot.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from flax import linen as nn

from jaxtrain.models.weights.axis_order import FileArray, Layout, VariableLayout, conv_layout, dense_layout, same_layout
from jaxtrain.models.weights.tracing import ModelTrace

Rules = Sequence[tuple[str, str]]
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""torch's names of our leaves."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The names of one library for the networks of one of our classes.

    Attributes:
      title: title of the network in the library, for messages.
      model: class of our model.
      rules: naming rules of the modules; the first match applies. Modules that map to one name are concatenated in the
        order of the rules.
      numbered: function from our module names to more rules, for libraries that number the layers.
      parameters: names of the parameters that belong to no layer, by our name.
      sign: name that identifies files of such a network.
      older: pairs of a regular expression and its replacement, which update names of earlier releases.
      optional: regular expression for names that the model may lack.
      layouts: layouts by regular expression, for modules that are not convolutions or dense layers in the library.
      channels: function from the model to channel permutations by path and axis, for another channel order.
      caveat: function from the model to a sentence about differences that names and shapes do not show, or "".
      serves: function from a model of the class to whether the names apply to it.
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
    channels: Callable[[Any, ModelTrace], Mapping[str, Mapping[int, np.ndarray]]] = lambda model, anatomy: {}
    caveat: Callable[[Any], str] = lambda model: ""
    serves: Callable[[Any], bool] = lambda model: True

    def entries(self, model: nn.Module, anatomy: ModelTrace) -> tuple[list[FileArray], list[str]]:
        """Return the arrays of a file for all variables of the model, and the paths of variables without a name."""
        rules = [*self.rules, *self.numbered({module_path(path) for path in anatomy.shapes})]
        channels = self.channels(model, anatomy)
        parts: dict[str, list[tuple[int, VariableLayout]]] = {}
        nameless = []
        for path, variable in anatomy.shapes.items():
            match = self._name(path, rules)
            if match is None:
                nameless.append(path)
                continue
            name, order = match
            layout = self._layout(path, len(variable.shape))
            seen = anatomy.flattened.get(path)
            part = VariableLayout(path, variable.shape, layout, seen, channels.get(path, {}))
            parts.setdefault(name, []).append((order, part))
        ordered = {name: sorted(pairs, key=lambda pair: pair[0]) for name, pairs in parts.items()}
        return [FileArray(name, tuple(part for _, part in pairs)) for name, pairs in ordered.items()], nameless

    def _name(self, path: str, rules: Rules) -> tuple[str, int] | None:
        """Return the name in a file and the index of its rule, or None if no rule matches."""
        module, leaf = module_path(path), path.rpartition("/")[2]
        if not module:
            return (self.parameters[leaf], 0) if leaf in self.parameters else None
        for order, (ours, theirs) in enumerate(rules):
            match = _pattern(ours).fullmatch(module)
            if match and leaf in LEAVES:
                name = _fill(theirs, match.groupdict())
                return name + ("" if name.endswith("_") else ".") + LEAVES[leaf], order
        return None

    def _layout(self, path: str, rank: int) -> Layout:
        for pattern, layout in self.layouts.items():
            if rank > 1 and re.fullmatch(pattern, module_path(path)):
                return layout
        return {4: conv_layout, 2: dense_layout}.get(rank, same_layout) if path.endswith("/kernel") else same_layout


def module_path(path: str) -> str:
    """Return the module of a path: `stage1_block1/conv1` for `params/stage1_block1/conv1/kernel`."""
    return path.partition("/")[2].rpartition("/")[0]


@functools.cache
def _pattern(ours: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", ours)
    return re.compile(
        "".join(f"(?P<{piece}>[0-9]+[a-z]?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    )


def _fill(theirs: str, fields: Mapping[str, str]) -> str:
    def value(field: re.Match[str]) -> str:
        return str(int(fields[field[1]]) - 1) if field[2] else fields[field[1]]

    return re.sub(r"\{(\w+?)(-1)?\}", value, theirs)
