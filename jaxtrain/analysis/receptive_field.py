"""Receptive fields of arrays of any layout: their algebra, and their propagation through the equations of a jaxpr.

The receptive field of an element is a rectangle of the image. Along each side it begins at `start + sum of step *
index`, and all elements of an array have fields of the same size. Windows, slices, transpositions, reductions and the
reshapes of tiled pooling keep this form. For other operations the fields grow to the union of the fields of all
elements involved, so that they never miss a pixel.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Factor:
    """An axis or a factor of an axis: a reshape splits an axis into factors, or merges several axes into one.

    Attributes:
      length: number of values of the index.
      steps: pixels by which the field moves when the index grows by one, along each side of the image; None for uneven
        steps.
      spans: pixels between the first field and the last, along each side.
    """

    length: int
    steps: tuple[int, ...] | None
    spans: tuple[int, ...]

    @property
    def constant(self) -> bool:
        """Whether the field is the same for every index."""
        return self.steps is not None and not any(self.steps)


Axis = tuple[Factor, ...]


def linear_factor(length: int, steps: Iterable[int]) -> Factor:
    """Return a factor along which the field moves in equal steps."""
    each = tuple(steps)
    return Factor(length, each, tuple((length - 1) * s for s in each))


@dataclasses.dataclass(frozen=True)
class ReceptiveFields:
    """The receptive fields of all elements of an array.

    Attributes:
      sizes: pixels of a field along each side of the image.
      starts: first pixel of the first element's field along each side; negative inside the padding.
      axes: factors of each axis.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def of_images(cls, shape: Sequence[int]) -> "ReceptiveFields":
        """Return the fields of images `[N, *sides, C]`: the field of each element is its own pixel."""
        sides = len(shape) - 2
        zero = (0,) * sides
        steps = [zero, *(tuple(int(i == d) for i in range(sides)) for d in range(sides)), zero]
        return cls((1,) * sides, zero, tuple((linear_factor(n, s),) for n, s in zip(shape, steps, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(math.prod(d.length for d in axis) for axis in self.axes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between the fields of neighbors along each side of the image; 0 where all fields are the same."""
        steps = [d.steps for axis in self.axes for d in axis if d.steps is not None]
        return tuple(min((s[side] for s in steps if s[side]), default=0) for side in range(len(self.sizes)))

    @property
    def vary(self) -> bool:
        """Whether elements have different fields."""
        return any(not d.constant for axis in self.axes for d in axis)

    def vary_along(self, axes: Iterable[int]) -> bool:
        """Return whether the field depends on the index of one of the axes."""
        return any(not d.constant for a in axes for d in self.axes[a])

    def merge_along(self, axes: Iterable[int]) -> "ReceptiveFields":
        """Give each element the union of the fields along `axes`."""
        chosen = set(axes)
        spans = [d.spans for a in chosen for d in self.axes[a]]
        sizes = tuple(size + sum(s[i] for s in spans) for i, size in enumerate(self.sizes))
        new_axes = (self._constant_axis(n) if a in chosen else axis for a, (axis, n) in enumerate(self._with_lengths()))
        return ReceptiveFields(sizes, self.starts, tuple(new_axes))

    def reduce(self, axes: Iterable[int]) -> "ReceptiveFields":
        """Return the fields after a reduction over `axes`."""
        removed = set(axes)
        merged = self.merge_along(removed)
        return dataclasses.replace(merged, axes=tuple(x for a, x in enumerate(merged.axes) if a not in removed))

    def slide_window(
        self, axis: int, positions: int, window: int = 1, *, stride: int = 1, dilation: int = 1, before: int = 0
    ) -> "ReceptiveFields":
        """Return the fields after a window slides along an axis. A slice is a window of 1 with negative padding.

        Args:
          axis: axis of the array.
          positions: number of positions of the window, which is the new length of the axis.
          window: number of elements in the window.
          stride: distance between two positions.
          dilation: distance between two elements of the window.
          before: padding before the first element.
        """
        if (positions, window, stride, before) == (self.shape[axis], 1, 1, 0):
            return self
        factors = _merge_factors(self.axes[axis])
        if len(factors) > 1 or factors[0].steps is None:
            return self.merge_along([axis])._with_axis(axis, self._constant_axis(positions))
        steps = factors[0].steps
        return ReceptiveFields(
            tuple(size + (window - 1) * dilation * s for size, s in zip(self.sizes, steps, strict=True)),
            tuple(start - before * s for start, s in zip(self.starts, steps, strict=True)),
            self._with_axis(axis, (linear_factor(positions, (stride * s for s in steps)),)).axes,
        )

    def arrange_axes(self, shape: Sequence[int], sources: Sequence[int | None]) -> "ReceptiveFields":
        """Reorder axes: axis i of the result, of length `shape[i]`, is axis `sources[i]`, or a new one for None."""
        axes = []
        for length, source in zip(shape, sources, strict=True):
            same = source is not None and self.shape[source] == length
            axes.append(self.axes[source] if same and source is not None else self._constant_axis(length))
        return dataclasses.replace(self, axes=tuple(axes))

    def reshape(self, shape: Sequence[int]) -> "ReceptiveFields":
        """Return the fields after a reshape."""
        left = [d for axis in self.axes for d in _merge_factors(axis)][::-1]
        axes = [_take_factors(left, length) for length in shape]
        new_axes = [a for a in axes if a is not None]
        if len(new_axes) < len(axes):
            return self.merge_all(shape)
        return dataclasses.replace(self, axes=tuple(a or self._constant_axis(1) for a in new_axes))

    def merge_all(self, shape: Sequence[int]) -> "ReceptiveFields":
        """Return the fields of an array of `shape` whose elements may all depend on every element of this one."""
        merged = self.merge_along(range(len(self.axes)))
        return dataclasses.replace(merged, axes=tuple(self._constant_axis(n) for n in shape))

    def _constant_axis(self, length: int) -> Axis:
        return (linear_factor(length, (0,) * len(self.sizes)),)

    def _with_axis(self, axis: int, factors: Axis) -> "ReceptiveFields":
        return dataclasses.replace(self, axes=(*self.axes[:axis], factors, *self.axes[axis + 1 :]))

    def _with_lengths(self) -> Iterable[tuple[Axis, int]]:
        return zip(self.axes, self.shape, strict=True)


def union(arrays: Sequence[ReceptiveFields]) -> ReceptiveFields:
    """Return the fields of an elementwise result, such as a sum, of arrays of one shape."""
    return _bounding_box(_align(arrays, range(len(arrays[0].axes))))


def concatenate(arrays: Sequence[ReceptiveFields], axis: int, length: int) -> ReceptiveFields:
    """Return the fields of a concatenation along `axis` to `length` elements.

    Args:
      arrays: operands that depend on the image.
      axis: axis of the concatenation.
      length: length of the axis in the result, including the operands that do not depend on the image.
    """
    arrays = _align(arrays, (a for a in range(len(arrays[0].axes)) if a != axis))
    if not any(v.vary_along([axis]) for v in arrays):
        return _bounding_box([v._with_axis(axis, v._constant_axis(length)) for v in arrays])
    sides = range(len(arrays[0].sizes))
    sizes = tuple(max(v.sizes[i] for v in arrays) for i in sides)
    whole = _bounding_box([v.merge_along([axis])._with_axis(axis, v._constant_axis(length)) for v in arrays])
    uneven = Factor(length, None, tuple(whole.sizes[i] - sizes[i] for i in sides))
    return ReceptiveFields(sizes, whole.starts, whole._with_axis(axis, (uneven,)).axes)


def _align(arrays: Sequence[ReceptiveFields], axes: Iterable[int]) -> list[ReceptiveFields]:
    """Merge the fields along the axes on which the arrays' fields move differently."""
    differing = [a for a in axes if len({_merge_factors(v.axes[a]) for v in arrays}) > 1]
    return [v.merge_along(differing) for v in arrays]


def _bounding_box(arrays: Sequence[ReceptiveFields]) -> ReceptiveFields:
    sides = range(len(arrays[0].sizes))
    starts = tuple(min(v.starts[i] for v in arrays) for i in sides)
    ends = (max(v.starts[i] + v.sizes[i] for v in arrays) for i in sides)
    return ReceptiveFields(tuple(e - s for e, s in zip(ends, starts, strict=True)), starts, arrays[0].axes)


def _merge_factors(axis: Axis) -> Axis:
    """Return the axis in as few factors as possible."""
    factors: list[Factor] = []
    for factor in axis:
        if factor.length == 1 and factor.constant:
            continue
        last = factors[-1] if factors else None
        if last and factor.steps is not None and last.steps == tuple(factor.length * s for s in factor.steps):
            factors[-1] = linear_factor(last.length * factor.length, factor.steps)
            continue
        factors.append(factor)
    return tuple(factors) or axis[:1]


def _take_factors(left: list[Factor], length: int) -> Axis | None:
    """Remove the factors of an axis of `length` from the end of `left`; return None where no factors fit."""
    if length == 1:
        if not left or left[-1].steps is None or left[-1].constant:
            return ()
        if left[-1].length == 1:
            return (left.pop(),)
        return (linear_factor(1, (left[-1].length * s for s in left[-1].steps)),)
    taken: list[Factor] = []
    while length > 1:
        if not left:
            return None
        factor = left.pop()
        if length % factor.length == 0:
            taken.append(factor)
            length //= factor.length
        elif factor.length % length == 0 and factor.steps is not None:
            rest = factor.length // length
            taken.append(linear_factor(length, (rest * s for s in factor.steps)))
            left.append(linear_factor(rest, factor.steps))
            length = 1
        else:
            return None
    return tuple(taken)


Operands = Sequence[ReceptiveFields | None]
"""The fields of an equation's operands; None for an operand that does not depend on the images."""

_ELEMENTWISE_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div eq
erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul
ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient
sub tan tanh xor
"""
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


def propagate(eqn: Any, operands: Operands) -> ReceptiveFields:
    """Return the fields of an equation's results. Results of an unknown operation depend on all of its operands."""
    shape = eqn.outvars[0].aval.shape
    name = eqn.primitive.name
    dependent = [v for v in operands if v is not None]
    if name in _ELEMENTWISE:
        return union([v for v in dependent if v.shape == shape] or [v.merge_all(shape) for v in dependent])
    if name == "dot_general":
        return _dot(eqn, operands, shape)
    rule = _RULES.get(name)
    if rule is not None and operands[0] is not None and len(dependent) == 1:
        return rule(eqn, operands[0], shape)
    if name == "concatenate":
        return concatenate(dependent, eqn.params["dimension"], shape[eqn.params["dimension"]])
    if name.startswith(("reduce_", "arg")) and "axes" in eqn.params and len(dependent) == 1:
        return dependent[0].reduce(eqn.params["axes"])
    return union([v.merge_all(shape) for v in dependent])


def _convolution(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    p = eqn.params
    batch, feature, *spatial = p["dimension_numbers"].lhs_spec
    out_batch, _, *out_spatial = p["dimension_numbers"].out_spec
    kernel, rhs_spec = eqn.invars[1].aval.shape, p["dimension_numbers"].rhs_spec
    if any(d != 1 for d in p["lhs_dilation"]):
        return fields.merge_all(shape)
    fields = fields.merge_along([feature])
    for i, (source, target) in enumerate(zip(spatial, out_spatial, strict=True)):
        fields = fields.slide_window(
            source,
            shape[target],
            kernel[rhs_spec[2 + i]],
            stride=p["window_strides"][i],
            dilation=p["rhs_dilation"][i],
            before=p["padding"][i][0],
        )
    sources: list[int | None] = [None] * len(shape)
    sources[out_batch] = batch
    for source, target in zip(spatial, out_spatial, strict=True):
        sources[target] = source
    return fields.arrange_axes(shape, sources)


def _reduce_window(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    p = eqn.params
    if any(d != 1 for d in p["base_dilation"]):
        return fields.merge_all(shape)
    for axis, positions in enumerate(shape):
        fields = fields.slide_window(
            axis,
            positions,
            p["window_dimensions"][axis],
            stride=p["window_strides"][axis],
            dilation=p["window_dilation"][axis],
            before=p["padding"][axis][0],
        )
    return fields


def _slice(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    strides = eqn.params["strides"] or (1,) * len(shape)
    for axis, (start, stride) in enumerate(zip(eqn.params["start_indices"], strides, strict=True)):
        fields = fields.slide_window(axis, shape[axis], stride=stride, before=-start)
    return fields


def _pad(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    if any(interior for _, _, interior in eqn.params["padding_config"]):
        return fields.merge_all(shape)
    for axis, (before, _, _) in enumerate(eqn.params["padding_config"]):
        fields = fields.slide_window(axis, shape[axis], before=before)
    return fields


def _broadcast(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    source_of = {target: source for source, target in enumerate(eqn.params["broadcast_dimensions"])}
    return fields.arrange_axes(shape, [source_of.get(i) for i in range(len(shape))])


def _merge_rule(parameter: str) -> Callable[[Any, ReceptiveFields, tuple[int, ...]], ReceptiveFields]:
    """Return the rule of an operation that mixes all elements along the axes in `parameter`, and no others."""

    def rule(eqn: Any, fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
        axes = eqn.params[parameter]
        return fields.merge_along(axes if isinstance(axes, tuple) else (axes,))

    return rule


def _dot(eqn: Any, operands: Operands, shape: tuple[int, ...]) -> ReceptiveFields:
    """Return the fields of a `dot_general`: batch axes first, then the free axes of the left and right operand."""
    contracting, batch = eqn.params["dimension_numbers"]
    count, arranged = len(batch[0]), []
    both = all(v is not None for v in operands)
    first = count
    for side, fields in enumerate(operands):
        rank = len(eqn.invars[side].aval.shape)
        free = [a for a in range(rank) if a not in (*contracting[side], *batch[side])]
        if fields is not None:
            fields = fields.merge_along([*contracting[side], *(free if both else ())])
            sources: list[int | None] = [*batch[side], *[None] * (len(shape) - count)]
            sources[first : first + len(free)] = free
            arranged.append(fields.arrange_axes(shape, sources))
        first += len(free)
    return union(arranged)


_RULES: dict[str, Callable[[Any, ReceptiveFields, tuple[int, ...]], ReceptiveFields]] = {
    "conv_general_dilated": _convolution,
    "reduce_window_max": _reduce_window,
    "reduce_window_min": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "reduce_window": _reduce_window,
    "slice": _slice,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda eqn, fields, shape: fields.reshape(shape),
    "squeeze": lambda eqn, fields, shape: fields.reduce(eqn.params["dimensions"]),
    "expand_dims": lambda eqn, fields, shape: fields.reshape(shape),
    "transpose": lambda eqn, fields, shape: fields.arrange_axes(shape, eqn.params["permutation"]),
    "rev": _merge_rule("dimensions"),
    "cumsum": _merge_rule("axis"),
    "cumprod": _merge_rule("axis"),
    "cummax": _merge_rule("axis"),
    "cumlogsumexp": _merge_rule("axis"),
}
