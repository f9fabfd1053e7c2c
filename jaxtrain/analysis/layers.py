"""The layers of a network, found in its jaxpr in the order in which it computes them.

What reads a feature map and makes another is a layer: a convolution, a pooling, a join. What works on each element
belongs to the layer before it: a bias, say, or a factor. Activations, normalizations and dropout are layers too, minor
ones.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxtrain.analysis import jaxpr_ops as kinds
from jaxtrain.analysis.receptive_field import View

Path = tuple[str, ...]
"""Names of modules, from the outermost."""
Role = Literal["layer", "norm", "activation", "join", "pool", "reduction", "window"]


@dataclasses.dataclass
class Found:
    """A layer, while it is being found.

    Attributes:
      path: of the module that it is in, or is.
      kind: what it is called.
      role: what the rules need to know of it.
      shape: of its output, with the batch.
      dtype: of its output.
      view: what its output sees of the image.
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
    view: View
    made_of: int | None = None
    leaves: list[int] = dataclasses.field(default_factory=list)
    flops: int = 0
    minor: bool = False
    over: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Value:
    """Of a variable of the jaxpr.

    Attributes:
      view: what its elements see of the images; None for nothing.
      layer: the number of the layer that made it, where it sees something.
      leaves: the model's variables of which it is made, where it sees nothing.
    """

    view: View | None = None
    layer: int = -1
    leaves: frozenset[int] = frozenset()


class Layers:
    """Decides which layer an equation belongs to.

    Attributes:
      modules: the class of each module that is called, by path.
      found: the layers so far; the first is the input.
    """

    def __init__(self, modules: Mapping[Path, type], images: Any):
        self.modules = modules
        self.found = [Found((), "input", "layer", images.shape, images.dtype, View.of_images(images.shape))]
        self._modules: dict[Path, int] = {}
        self._containers = {path[:i] for path in modules for i in range(len(path))}

    def normalizes(self, path: Path) -> bool:
        """Whether `path` is in a normalization."""
        return self._module(path, kinds.NORMS) is not None

    def of(self, eqn: Any, path: Path, operands: Sequence[Value], view: View, last_use: Sequence[bool]) -> int:
        """The number of the layer that the equation belongs to, which may be a new one.

        Args:
          eqn: the equation, one of whose operands depends on the images.
          path: of the module that it is in.
          operands: what is known of them.
          view: of its results.
          last_use: whether no other equation reads an operand.
        """
        makers = sorted({v.layer for v in operands if v.view is not None})
        number, last = makers[-1], self.found[makers[-1]]
        norm = self._module(path, kinds.NORMS)
        if norm is not None:
            number = self._whole(*norm, "norm", eqn, makers)
            found = self.found[number]
            found.shape, found.dtype, found.view = eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype, view
            return number
        other = self._module(path, kinds.OTHERS)
        if other is not None:
            return self._whole(*other, "activation", eqn, makers)
        kind, role = self._maker(eqn, operands, last, path)
        if kind:
            return self._add(Found(path, kind, role, *_output(eqn), view, made_of=number, over=_axes(eqn)))
        if len(makers) == 1:
            return self._elementwise(eqn, path, operands, view, number)
        if makers[:-1] == [last.made_of] and last.role in ("activation", "reduction", "window"):
            _recombine(last, eqn, view)
            return number
        kind = kinds.join(eqn.primitive.name)
        again = any(once and v.layer == number for once, v in zip(last_use, operands, strict=True))
        if again and last.role == "join" and (last.kind, last.path) == (kind, path):
            last.view = view
            return number
        return self._add(Found(path, kind, "join", *_output(eqn), view, made_of=number))

    def activation(self, eqn: Any, path: Path, operand: Value, kind: str) -> int:
        """The number of a new layer, an activation function."""
        return self._minor(path, kind, "activation", eqn, operand.layer)

    def _maker(self, eqn: Any, operands: Sequence[Value], last: Found, path: Path) -> tuple[str, Role]:
        """Kind and role of a layer that the equation alone is; no kind where it is none."""
        name, first = eqn.primitive.name, operands[0]
        seeing = sum(v.view is not None for v in operands)
        if name == "conv_general_dilated":
            return kinds.convolution(eqn), "layer"
        if name == "dot_general":
            return ("dense" if seeing == 1 else "matmul"), "layer"
        if name in kinds.LOOPS:
            return kinds.LOOPS[name], "layer"
        if name == "concatenate" and (seeing > 1 or any(v.leaves for v in operands)):
            return name, "join"
        if first.view is not None and name.startswith("reduce_window"):
            return _windowed(eqn, first.view)
        axes = _axes(eqn)
        again = (
            last.minor and last.over == axes and last.path == path
        )  # a normalization's further sum: a softmax has one
        return _reduced(eqn, first.view, axes) if first.view is not None and axes and not again else ("", "layer")

    def _elementwise(self, eqn: Any, path: Path, operands: Sequence[Value], view: View, number: int) -> int:
        """The layer of what has one feature map, and perhaps constants and parameters."""
        last, name = self.found[number], eqn.primitive.name
        if last.role in ("pool", "reduction") and name in ("div", "mul"):
            last.kind = last.kind.replace("sum pool", "average pool").replace("sum over", "mean over")
        own = path not in self._containers
        bent = kinds.activation(eqn, [v.view is not None for v in operands])
        if last.role in ("activation", "reduction") and last.minor and last.path == path:
            if last.role == "reduction" and name == "exp":
                last.kind = "softmax"
            return number
        if bent:
            return self._minor(path, bent, "activation", eqn, number)
        if any(v.leaves for v in operands) and not (own and last.path == path):
            kind = self.modules[path].__name__ if own and path in self.modules else kinds.join(name)
            return self._add(Found(path, kind, "layer", *_output(eqn), view, made_of=number))
        return number

    def _module(self, path: Path, named: Mapping[type, str]) -> tuple[Path, str] | None:
        """Path and name of the module of one of the classes that `path` is in."""
        for end in range(len(path), -1, -1):
            cls = self.modules.get(path[:end], object)
            for base, name in named.items():
                if issubclass(cls, base):
                    return path[:end], name
        return None

    def _whole(self, path: Path, kind: str, role: Role, eqn: Any, makers: Sequence[int]) -> int:
        """The number of the layer that a whole module is, a minor one; a module may be called more than once."""
        number = self._modules.get(path, 0)
        if not number or not {number, self.found[number].made_of} & set(makers):
            number = self._modules[path] = self._minor(path, kind, role, eqn, makers[-1])
        return number

    def _minor(self, path: Path, kind: str, role: Role, eqn: Any, made_of: int) -> int:
        view = self.found[made_of].view
        return self._add(Found(path, kind, role, *_output(eqn), view, made_of=made_of, minor=True))

    def _add(self, found: Found) -> int:
        self.found.append(found)
        return len(self.found) - 1


def _windowed(eqn: Any, view: View) -> tuple[str, Role]:
    """Kind and role of a window that goes over places, or over channels."""
    axes = [a for a, size in enumerate(eqn.params["window_dimensions"]) if size > 1]
    if axes == [len(view.axes) - 1] and not view.moves_along(axes):
        return f"window {kinds.reduction(eqn)}", "window"
    return kinds.window_pooling(eqn, axes), "pool"


def _reduced(eqn: Any, view: View, axes: tuple[int, ...]) -> tuple[str, Role]:
    """Kind and role of a reduction over places, all of them or those of tiles, or over channels, the last axis."""
    lengths, rank = [view.shape[a] for a in axes], len(view.axes)
    moves = view.moves_along(axes)
    if not moves and (rank < 3 or rank - 1 in axes):
        return f"{kinds.reduction(eqn)} over {'x'.join(map(str, lengths))}", "reduction"
    if axes == tuple(range(1, rank - 1)) or (moves and not view.reduced(axes).moves):
        return f"global {kinds.reduction(eqn)} pool", "pool"
    return kinds.tile_pooling(eqn, lengths), "pool"


def _axes(eqn: Any) -> tuple[int, ...]:
    """Of a reduction."""
    reduces = eqn.primitive.name.startswith(("reduce_", "arg"))
    return tuple(eqn.params.get("axes", ())) if reduces else ()


def _output(eqn: Any) -> tuple[tuple[int, ...], Any]:
    aval = eqn.outvars[0].aval
    return tuple(aval.shape), aval.dtype


def _recombine(found: Found, eqn: Any, view: View) -> None:
    """A feature map meets what was made of it alone: a gate such as x sigmoid(x), or a normalization."""
    found.view, (found.shape, found.dtype) = view, _output(eqn)
    if found.role == "window":
        found.kind = "local response norm"
    elif found.role == "reduction" and not found.minor:
        found.kind, found.minor = "normalization", True
