"""Receptive fields of arrays of any layout: what each of their elements sees of an image.

What an element sees is a rectangle whose corner moves evenly with the element's indices: along each side of the
image, it begins at `start + sum of step * index`, and its size is the same for all. That stays so through windows,
slices, transpositions, reductions, and through the reshapes of which poolings over tiles are made. Where it would not,
the view is made larger to what all the elements concerned see together, so that nothing that is seen is left out.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Digit:
    """An axis, or a factor of one: a reshape makes one axis of several digits, and several axes of one digit.

    Attributes:
      length: of its index.
      steps: pixels by which the view moves with the index, along each side of the image; None where it moves unevenly.
      spans: pixels by which it moves in all.
    """

    length: int
    steps: tuple[int, ...] | None
    spans: tuple[int, ...]

    @property
    def still(self) -> bool:
        """Whether the view does not depend on the index."""
        return self.steps is not None and not any(self.steps)


Axis = tuple[Digit, ...]


def moving(length: int, steps: Iterable[int]) -> Digit:
    """A digit with which the view moves evenly, forward."""
    each = tuple(steps)
    return Digit(length, each, tuple((length - 1) * s for s in each))


@dataclasses.dataclass(frozen=True)
class View:
    """What the elements of an array see.

    Attributes:
      sizes: pixels that an element sees, along each side of the image.
      starts: where the view of the first element begins; negative inside the padding.
      axes: the digits of each axis.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    axes: tuple[Axis, ...]

    @classmethod
    def of_images(cls, shape: Sequence[int]) -> "View":
        """Of images `[N, *sides, C]`: each element sees its own pixel."""
        sides = len(shape) - 2
        still = (0,) * sides
        steps = [still, *(tuple(int(i == d) for i in range(sides)) for d in range(sides)), still]
        return cls((1,) * sides, still, tuple((moving(n, s),) for n, s in zip(shape, steps, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(math.prod(d.length for d in axis) for axis in self.axes)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between what two neighbors see along each side of the image; 0 where the elements all see the same."""
        steps = [d.steps for axis in self.axes for d in axis if d.steps is not None]
        return tuple(min((s[side] for s in steps if s[side]), default=0) for side in range(len(self.sizes)))

    @property
    def moves(self) -> bool:
        """Whether not all of the elements see the same."""
        return any(not d.still for axis in self.axes for d in axis)

    def moves_along(self, axes: Iterable[int]) -> bool:
        """Whether the view depends on the index of one of the axes."""
        return any(not d.still for a in axes for d in self.axes[a])

    def blurred(self, axes: Iterable[int]) -> "View":
        """The view of everything along `axes`, for each of their elements."""
        chosen = set(axes)
        spans = [d.spans for a in chosen for d in self.axes[a]]
        sizes = tuple(size + sum(s[i] for s in spans) for i, size in enumerate(self.sizes))
        kept = (self._still(n) if a in chosen else axis for a, (axis, n) in enumerate(self._with_lengths()))
        return View(sizes, self.starts, tuple(kept))

    def reduced(self, axes: Iterable[int]) -> "View":
        """After a reduction over `axes`."""
        gone = set(axes)
        blurred = self.blurred(gone)
        return dataclasses.replace(blurred, axes=tuple(x for a, x in enumerate(blurred.axes) if a not in gone))

    def windowed(
        self, axis: int, places: int, window: int = 1, *, stride: int = 1, dilation: int = 1, before: int = 0
    ) -> "View":
        """After a window has gone along an axis, or a slice of it is taken, which is padding of less than nothing.

        Args:
          axis: which.
          places: of the window; the length of the axis afterwards.
          window: its size.
          stride: between two places.
          dilation: between two elements of the window.
          before: padding before the first element.
        """
        if (places, window, stride, before) == (self.shape[axis], 1, 1, 0):
            return self
        digits = _merged(self.axes[axis])
        if len(digits) > 1 or digits[0].steps is None:
            return self.blurred([axis])._with_axis(axis, self._still(places))
        steps = digits[0].steps
        return View(
            tuple(size + (window - 1) * dilation * s for size, s in zip(self.sizes, steps, strict=True)),
            tuple(start - before * s for start, s in zip(self.starts, steps, strict=True)),
            self._with_axis(axis, (moving(places, (stride * s for s in steps)),)).axes,
        )

    def arranged(self, shape: Sequence[int], sources: Sequence[int | None]) -> "View":
        """With axes in another order: axis i of the result, of length `shape[i]`, is axis `sources[i]` or a new one."""
        axes = []
        for length, source in zip(shape, sources, strict=True):
            same = source is not None and self.shape[source] == length
            axes.append(self.axes[source] if same and source is not None else self._still(length))
        return dataclasses.replace(self, axes=tuple(axes))

    def reshaped(self, shape: Sequence[int]) -> "View":
        """After a reshape."""
        left = [d for axis in self.axes for d in _merged(axis)][::-1]
        axes = [_taken(left, length) for length in shape]
        found = [a for a in axes if a is not None]
        if len(found) < len(axes):
            return self.opaque(shape)
        return dataclasses.replace(self, axes=tuple(a or self._still(1) for a in found))

    def opaque(self, shape: Sequence[int]) -> "View":
        """Of an array of `shape` in which every element may depend on all of this one's."""
        blurred = self.blurred(range(len(self.axes)))
        return dataclasses.replace(blurred, axes=tuple(self._still(n) for n in shape))

    def _still(self, length: int) -> Axis:
        return (moving(length, (0,) * len(self.sizes)),)

    def _with_axis(self, axis: int, digits: Axis) -> "View":
        return dataclasses.replace(self, axes=(*self.axes[:axis], digits, *self.axes[axis + 1 :]))

    def _with_lengths(self) -> Iterable[tuple[Axis, int]]:
        return zip(self.axes, self.shape, strict=True)


def joined(views: Sequence[View]) -> View:
    """Of the sum, say, of arrays of one shape: what any of them sees."""
    return _hull(_aligned(views, range(len(views[0].axes))))


def concatenated(views: Sequence[View], axis: int, length: int) -> View:
    """Of arrays joined along `axis` to `length` elements; those that see nothing of the image are not among `views`."""
    views = _aligned(views, (a for a in range(len(views[0].axes)) if a != axis))
    if not any(v.moves_along([axis]) for v in views):
        return _hull([v._with_axis(axis, v._still(length)) for v in views])
    sides = range(len(views[0].sizes))
    sizes = tuple(max(v.sizes[i] for v in views) for i in sides)
    whole = _hull([v.blurred([axis])._with_axis(axis, v._still(length)) for v in views])
    uneven = Digit(length, None, tuple(whole.sizes[i] - sizes[i] for i in sides))
    return View(sizes, whole.starts, whole._with_axis(axis, (uneven,)).axes)


def _aligned(views: Sequence[View], axes: Iterable[int]) -> list[View]:
    """The views with the axes blurred along which they do not move alike."""
    unlike = [a for a in axes if len({_merged(v.axes[a]) for v in views}) > 1]
    return [v.blurred(unlike) for v in views]


def _hull(views: Sequence[View]) -> View:
    sides = range(len(views[0].sizes))
    starts = tuple(min(v.starts[i] for v in views) for i in sides)
    ends = (max(v.starts[i] + v.sizes[i] for v in views) for i in sides)
    return View(tuple(e - s for e, s in zip(ends, starts, strict=True)), starts, views[0].axes)


def _merged(axis: Axis) -> Axis:
    """The same axis in as few digits as it takes."""
    digits: list[Digit] = []
    for digit in axis:
        if digit.length == 1 and digit.still:
            continue
        last = digits[-1] if digits else None
        if last and digit.steps is not None and last.steps == tuple(digit.length * s for s in digit.steps):
            digits[-1] = moving(last.length * digit.length, digit.steps)
            continue
        digits.append(digit)
    return tuple(digits) or axis[:1]


def _taken(left: list[Digit], length: int) -> Axis | None:
    """The digits of the next axis, taken off the end of `left`; None where they do not come out even."""
    if length == 1:
        if not left or left[-1].steps is None or left[-1].still:
            return ()
        if left[-1].length == 1:
            return (left.pop(),)
        return (moving(1, (left[-1].length * s for s in left[-1].steps)),)
    taken: list[Digit] = []
    while length > 1:
        if not left:
            return None
        digit = left.pop()
        if length % digit.length == 0:
            taken.append(digit)
            length //= digit.length
        elif digit.length % length == 0 and digit.steps is not None:
            rest = digit.length // length
            taken.append(moving(length, (rest * s for s in digit.steps)))
            left.append(moving(rest, digit.steps))
            length = 1
        else:
            return None
    return tuple(taken)
