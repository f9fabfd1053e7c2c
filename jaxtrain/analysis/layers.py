"""The layers of a network, found in its jaxpr in the order in which it computes them.

What reads a feature map and makes another is a layer: a convolution, a pooling, a join. What works on each element
belongs to the layer before it: a bias, say, or a factor. Activations, normalizations and dropout are layers too, minor
ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxtrain.analysis.jaxpr_ops import (
    LOOPS,
    NORMS,
    OTHER_MODULES,
    activation_name,
    describe_convolution,
    describe_tile_pooling,
    describe_window_pooling,
    join_name,
    reduction_name,
)
from jaxtrain.analysis.receptive_field import ReceptiveFields

Path = tuple[str, ...]
"""Names of modules, from the outermost."""
Role = Literal["layer", "norm", "activation", "join", "pool", "reduction", "window"]


@dataclasses.dataclass
class TracedLayer:
    """A layer that the walk has found so far.

    Attributes:
      path: of the module that it is in, or is.
      kind: what it is called.
      role: what the rules need to know of it.
      shape: of its output, with the batch.
      dtype: of its output.
      fields: the receptive fields of its output.
      made_of: the layer whose output it takes, where there is one.
      leaves: the variables that it uses first, as numbers.
      flops: of products and convolutions.
      minor: whether tables show it with the layer that it is made of.
      over: the axes of a reduction.
    """

    path: Path
    kind: str
    role: Role
    shape: tuple[int, ...]
    dtype: Any
    fields: ReceptiveFields
    made_of: int | None = None
    leaves: list[int] = dataclasses.field(default_factory=list)
    flops: int = 0
    minor: bool = False
    over: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TracedValue:
    """What is known of a variable of the jaxpr.

    Attributes:
      fields: the receptive fields of its elements; None where it does not depend on the images.
      layer: the number of the layer that made it, where it sees something.
      leaves: the model's variables of which it is made, where it sees nothing.
    """

    fields: ReceptiveFields | None = None
    layer: int = -1
    leaves: frozenset[int] = frozenset()


class LayerFinder:
    """Decides which layer an equation belongs to.

    Attributes:
      modules: the class of each module that is called, by path.
      found: the layers so far; the first is the input.
    """

    def __init__(self, modules: Mapping[Path, type], images: Any):
        self.modules = modules
        fields = ReceptiveFields.of_images(images.shape)
        self.found = [TracedLayer((), "input", "layer", images.shape, images.dtype, fields)]
        self._modules: dict[Path, int] = {}
        self._containers = {path[:i] for path in modules for i in range(len(path))}

    def in_normalization(self, path: Path) -> bool:
        """Whether `path` is in a normalization."""
        return self._module(path, NORMS) is not None

    def assign(
        self, eqn: Any, path: Path, operands: Sequence[TracedValue], fields: ReceptiveFields, last_use: Sequence[bool]
    ) -> int:
        """The number of the layer that the equation belongs to, which may be a new one.

        Args:
          eqn: the equation, one of whose operands depends on the images.
          path: of the module that it is in.
          operands: what is known of them.
          fields: the receptive fields of its results.
          last_use: whether no other equation reads an operand.
        """
        makers = sorted({v.layer for v in operands if v.fields is not None})
        number, last = makers[-1], self.found[makers[-1]]
        norm = self._module(path, NORMS)
        if norm is not None:
            number = self._module_layer(*norm, "norm", eqn, makers)
            found = self.found[number]
            found.shape, found.dtype, found.fields = eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype, fields
            return number
        other = self._module(path, OTHER_MODULES)
        if other is not None:
            return self._module_layer(*other, "activation", eqn, makers)
        kind, role = self._kind_and_role(eqn, operands, last, path)
        if kind:
            return self._add(TracedLayer(path, kind, role, *_output(eqn), fields, made_of=number, over=_axes(eqn)))
        if len(makers) == 1:
            return self._elementwise(eqn, path, operands, fields, number)
        if makers[:-1] == [last.made_of] and last.role in ("activation", "reduction", "window"):
            _recombine(last, eqn, fields)
            return number
        kind = join_name(eqn.primitive.name)
        again = any(once and v.layer == number for once, v in zip(last_use, operands, strict=True))
        if again and last.role == "join" and (last.kind, last.path) == (kind, path):
            last.fields = fields
            return number
        return self._add(TracedLayer(path, kind, "join", *_output(eqn), fields, made_of=number))

    def add_activation(self, eqn: Any, path: Path, operand: TracedValue, kind: str) -> int:
        """The number of a new layer, an activation function."""
        return self._add_minor(path, kind, "activation", eqn, operand.layer)

    def _kind_and_role(
        self, eqn: Any, operands: Sequence[TracedValue], last: TracedLayer, path: Path
    ) -> tuple[str, Role]:
        """Kind and role of a layer that the equation alone is; no kind where it is none."""
        name, first = eqn.primitive.name, operands[0]
        seeing = sum(v.fields is not None for v in operands)
        if name == "conv_general_dilated":
            return describe_convolution(eqn), "layer"
        if name == "dot_general":
            return ("dense" if seeing == 1 else "matmul"), "layer"
        if name in LOOPS:
            return LOOPS[name], "layer"
        if name == "concatenate" and (seeing > 1 or any(v.leaves for v in operands)):
            return name, "join"
        if first.fields is not None and name.startswith("reduce_window"):
            return _describe_window(eqn, first.fields)
        axes = _axes(eqn)
        # a normalization's further sum: a softmax has one
        again = last.minor and last.over == axes and last.path == path
        if first.fields is None or not axes or again:
            return "", "layer"
        return _describe_reduction(eqn, first.fields, axes)

    def _elementwise(
        self, eqn: Any, path: Path, operands: Sequence[TracedValue], fields: ReceptiveFields, number: int
    ) -> int:
        """The layer of what has one feature map, and perhaps constants and parameters."""
        last, name = self.found[number], eqn.primitive.name
        if last.role in ("pool", "reduction") and name in ("div", "mul"):
            last.kind = last.kind.replace("sum pool", "average pool").replace("sum over", "mean over")
        own = path not in self._containers
        bent = activation_name(eqn, [v.fields is not None for v in operands])
        if last.role in ("activation", "reduction") and last.minor and last.path == path:
            if last.role == "reduction" and name == "exp":
                last.kind = "softmax"
            return number
        if bent:
            return self._add_minor(path, bent, "activation", eqn, number)
        if any(v.leaves for v in operands) and not (own and last.path == path):
            kind = self.modules[path].__name__ if own and path in self.modules else join_name(name)
            return self._add(TracedLayer(path, kind, "layer", *_output(eqn), fields, made_of=number))
        return number

    def _module(self, path: Path, named: Mapping[type, str]) -> tuple[Path, str] | None:
        """Path and name of the module of one of the classes that `path` is in."""
        for end in range(len(path), -1, -1):
            cls = self.modules.get(path[:end], object)
            for base, name in named.items():
                if issubclass(cls, base):
                    return path[:end], name
        return None

    def _module_layer(self, path: Path, kind: str, role: Role, eqn: Any, makers: Sequence[int]) -> int:
        """The number of the layer that a whole module is, a minor one; a module may be called more than once."""
        number = self._modules.get(path, 0)
        if not number or not {number, self.found[number].made_of} & set(makers):
            number = self._modules[path] = self._add_minor(path, kind, role, eqn, makers[-1])
        return number

    def _add_minor(self, path: Path, kind: str, role: Role, eqn: Any, made_of: int) -> int:
        fields = self.found[made_of].fields
        return self._add(TracedLayer(path, kind, role, *_output(eqn), fields, made_of=made_of, minor=True))

    def _add(self, found: TracedLayer) -> int:
        self.found.append(found)
        return len(self.found) - 1


def _describe_window(eqn: Any, fields: ReceptiveFields) -> tuple[str, Role]:
    """Kind and role of a window that goes over places, or over channels."""
    axes = [a for a, size in enumerate(eqn.params["window_dimensions"]) if size > 1]
    if axes == [len(fields.axes) - 1] and not fields.vary_along(axes):
        return f"window {reduction_name(eqn)}", "window"
    return describe_window_pooling(eqn, axes), "pool"


def _describe_reduction(eqn: Any, fields: ReceptiveFields, axes: tuple[int, ...]) -> tuple[str, Role]:
    """Kind and role of a reduction over places, all of them or those of tiles, or over channels, the last axis."""
    lengths, rank = [fields.shape[a] for a in axes], len(fields.axes)
    moves = fields.vary_along(axes)
    if not moves and (rank < 3 or rank - 1 in axes):
        return f"{reduction_name(eqn)} over {'x'.join(map(str, lengths))}", "reduction"
    if axes == tuple(range(1, rank - 1)) or (moves and not fields.reduce(axes).vary):
        return f"global {reduction_name(eqn)} pool", "pool"
    return describe_tile_pooling(eqn, lengths), "pool"


def _axes(eqn: Any) -> tuple[int, ...]:
    """Of a reduction."""
    reduces = eqn.primitive.name.startswith(("reduce_", "arg"))
    return tuple(eqn.params.get("axes", ())) if reduces else ()


def _output(eqn: Any) -> tuple[tuple[int, ...], Any]:
    aval = eqn.outvars[0].aval
    return tuple(aval.shape), aval.dtype


def _recombine(found: TracedLayer, eqn: Any, fields: ReceptiveFields) -> None:
    """A feature map meets what was made of it alone: a gate such as x sigmoid(x), or a normalization."""
    found.fields, (found.shape, found.dtype) = fields, _output(eqn)
    if found.role == "window":
        found.kind = "local response norm"
    elif found.role == "reduction" and not found.minor:
        found.kind, found.minor = "normalization", True
