"""The layers of a network, found in its jaxpr in the order of computation.

An equation that makes a new feature map is a layer: a convolution, a pooling, a join. An elementwise equation, such as
adding a bias or multiplying by a factor, belongs to the layer before it. Activations, normalizations and dropout are
minor layers.
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
"""Names of nested modules, the outermost first."""
Role = Literal["layer", "norm", "activation", "join", "pool", "reduction", "window"]


@dataclasses.dataclass
class TracedLayer:
    """A layer found in a jaxpr; the walk may still change it.

    Attributes:
      path: path of the layer's module, or of the module around it.
      kind: description of the layer for tables.
      role: category of the layer, on which the rules of `LayerFinder` depend.
      shape: shape of the output, including the batch axis.
      dtype: dtype of the output.
      fields: receptive fields of the output.
      made_of: index of the layer whose output it takes; None for the input.
      leaves: indices of the variables that it is the first to use.
      flops: floating-point operations of matrix multiplications and convolutions.
      minor: whether tables show it in the row of the layer that it follows.
      reduced_axes: axes of a reduction.
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
    reduced_axes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TracedValue:
    """What the walk knows about a variable of the jaxpr.

    Attributes:
      fields: receptive fields of its elements; None if it does not depend on the images.
      layer: index of the layer that computes it, if it depends on the images.
      leaves: indices of the model's variables that it is computed from, if it does not depend on the images.
    """

    fields: ReceptiveFields | None = None
    layer: int = -1
    leaves: frozenset[int] = frozenset()


class LayerFinder:
    """A builder of the list of layers: it assigns each equation to a layer.

    Attributes:
      modules: class of each module that is called, by path.
      found: layers found so far; the first is the input.
    """

    def __init__(self, modules: Mapping[Path, type], images: Any):
        self.modules = modules
        fields = ReceptiveFields.of_images(images.shape)
        self.found = [TracedLayer((), "input", "layer", images.shape, images.dtype, fields)]
        self._modules: dict[Path, int] = {}
        self._containers = {path[:i] for path in modules for i in range(len(path))}

    def in_normalization(self, path: Path) -> bool:
        """Return whether `path` is inside a normalization module."""
        return self._find_module(path, NORMS) is not None

    def assign(
        self, eqn: Any, path: Path, operands: Sequence[TracedValue], fields: ReceptiveFields, last_use: Sequence[bool]
    ) -> int:
        """Return the index of the layer that an equation belongs to, which may be a new layer.

        Args:
          eqn: equation of which at least one operand depends on the images.
          path: path of the module around the equation.
          operands: traced values of the operands.
          fields: receptive fields of the results.
          last_use: whether each operand is read by no other equation.
        """
        makers = sorted({v.layer for v in operands if v.fields is not None})
        number, last = makers[-1], self.found[makers[-1]]
        norm = self._find_module(path, NORMS)
        if norm is not None:
            number = self._assign_module(*norm, "norm", eqn, makers)
            layer = self.found[number]
            layer.shape, layer.dtype, layer.fields = eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype, fields
            return number
        other = self._find_module(path, OTHER_MODULES)
        if other is not None:
            return self._assign_module(*other, "activation", eqn, makers)
        kind, role = self._kind_and_role(eqn, operands, last, path)
        if kind:
            return self._add(
                TracedLayer(path, kind, role, *_output(eqn), fields, made_of=number, reduced_axes=_reduction_axes(eqn))
            )
        if len(makers) == 1:
            return self._assign_elementwise(eqn, path, operands, fields, number)
        if makers[:-1] == [last.made_of] and last.role in ("activation", "reduction", "window"):
            _update_recombined(last, eqn, fields)
            return number
        kind = join_name(eqn.primitive.name)
        again = any(once and v.layer == number for once, v in zip(last_use, operands, strict=True))
        if again and last.role == "join" and (last.kind, last.path) == (kind, path):
            last.fields = fields
            return number
        return self._add(TracedLayer(path, kind, "join", *_output(eqn), fields, made_of=number))

    def add_activation(self, eqn: Any, path: Path, operand: TracedValue, kind: str) -> int:
        """Add an activation function as a layer, and return its index."""
        return self._add_minor(path, kind, "activation", eqn, operand.layer)

    def _kind_and_role(
        self, eqn: Any, operands: Sequence[TracedValue], last: TracedLayer, path: Path
    ) -> tuple[str, Role]:
        """Return kind and role if the equation by itself is a layer, else an empty kind."""
        name, first = eqn.primitive.name, operands[0]
        dependent = sum(v.fields is not None for v in operands)
        if name == "conv_general_dilated":
            return describe_convolution(eqn), "layer"
        if name == "dot_general":
            return ("dense" if dependent == 1 else "matmul"), "layer"
        if name in LOOPS:
            return LOOPS[name], "layer"
        if name == "concatenate" and (dependent > 1 or any(v.leaves for v in operands)):
            return name, "join"
        if first.fields is not None and name.startswith("reduce_window"):
            return _describe_window(eqn, first.fields)
        axes = _reduction_axes(eqn)
        # a further sum of the same normalization, such as that of a softmax
        repeated = last.minor and last.reduced_axes == axes and last.path == path
        if first.fields is None or not axes or repeated:
            return "", "layer"
        return _describe_reduction(eqn, first.fields, axes)

    def _assign_elementwise(
        self, eqn: Any, path: Path, operands: Sequence[TracedValue], fields: ReceptiveFields, number: int
    ) -> int:
        """Return the layer of an elementwise equation on one feature map and perhaps constants and parameters."""
        last, name = self.found[number], eqn.primitive.name
        if last.role in ("pool", "reduction") and name in ("div", "mul"):
            last.kind = last.kind.replace("sum pool", "average pool").replace("sum over", "mean over")
        own = path not in self._containers
        nonlinearity = activation_name(eqn, [v.fields is not None for v in operands])
        if last.role in ("activation", "reduction") and last.minor and last.path == path:
            if last.role == "reduction" and name == "exp":
                last.kind = "softmax"
            return number
        if nonlinearity:
            return self._add_minor(path, nonlinearity, "activation", eqn, number)
        if any(v.leaves for v in operands) and not (own and last.path == path):
            kind = self.modules[path].__name__ if own and path in self.modules else join_name(name)
            return self._add(TracedLayer(path, kind, "layer", *_output(eqn), fields, made_of=number))
        return number

    def _find_module(self, path: Path, names: Mapping[type, str]) -> tuple[Path, str] | None:
        """Return path and name of the innermost module around `path` that is of a class in `names`, or None."""
        for end in range(len(path), -1, -1):
            cls = self.modules.get(path[:end], object)
            for base, name in names.items():
                if issubclass(cls, base):
                    return path[:end], name
        return None

    def _assign_module(self, path: Path, kind: str, role: Role, eqn: Any, makers: Sequence[int]) -> int:
        """Return the index of the minor layer of a whole module; each call of the module has a layer of its own."""
        number = self._modules.get(path, 0)
        if not number or not {number, self.found[number].made_of} & set(makers):
            number = self._modules[path] = self._add_minor(path, kind, role, eqn, makers[-1])
        return number

    def _add_minor(self, path: Path, kind: str, role: Role, eqn: Any, made_of: int) -> int:
        fields = self.found[made_of].fields
        return self._add(TracedLayer(path, kind, role, *_output(eqn), fields, made_of=made_of, minor=True))

    def _add(self, layer: TracedLayer) -> int:
        self.found.append(layer)
        return len(self.found) - 1


def _describe_window(eqn: Any, fields: ReceptiveFields) -> tuple[str, Role]:
    """Return kind and role of a window reduction over positions or over channels."""
    axes = [a for a, size in enumerate(eqn.params["window_dimensions"]) if size > 1]
    if axes == [len(fields.axes) - 1] and not fields.vary_along(axes):
        return f"window {reduction_name(eqn)}", "window"
    return describe_window_pooling(eqn, axes), "pool"


def _describe_reduction(eqn: Any, fields: ReceptiveFields, axes: tuple[int, ...]) -> tuple[str, Role]:
    """Return kind and role of a reduction over all positions, over those of tiles, or over channels (the last axis)."""
    lengths, rank = [fields.shape[a] for a in axes], len(fields.axes)
    varies = fields.vary_along(axes)
    if not varies and (rank < 3 or rank - 1 in axes):
        return f"{reduction_name(eqn)} over {'x'.join(map(str, lengths))}", "reduction"
    if axes == tuple(range(1, rank - 1)) or (varies and not fields.reduce(axes).vary):
        return f"global {reduction_name(eqn)} pool", "pool"
    return describe_tile_pooling(eqn, lengths), "pool"


def _reduction_axes(eqn: Any) -> tuple[int, ...]:
    """Return the axes of a reduction; () for other equations."""
    reduces = eqn.primitive.name.startswith(("reduce_", "arg"))
    return tuple(eqn.params.get("axes", ())) if reduces else ()


def _output(eqn: Any) -> tuple[tuple[int, ...], Any]:
    aval = eqn.outvars[0].aval
    return tuple(aval.shape), aval.dtype


def _update_recombined(layer: TracedLayer, eqn: Any, fields: ReceptiveFields) -> None:
    """Update a layer whose output meets its own input again: a gate such as x sigmoid(x), or a normalization."""
    layer.fields, (layer.shape, layer.dtype) = fields, _output(eqn)
    if layer.role == "window":
        layer.kind = "local response norm"
    elif layer.role == "reduction" and not layer.minor:
        layer.kind, layer.minor = "normalization", True
