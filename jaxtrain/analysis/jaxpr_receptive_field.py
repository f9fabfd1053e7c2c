"""Receptive fields through the equations of a jaxpr."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtrain.analysis.receptive_field import View, concatenated, joined

Views = Sequence[View | None]
"""Of the operands of an equation; None for what does not depend on the images."""

_ELEMENTWISE_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh div eq
erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul
ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient
sub tan tanh xor
"""
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


def view_after(eqn: Any, views: Views) -> View:
    """What the elements of an equation's results see. Unknown operations are taken to see all of their operands."""
    shape = eqn.outvars[0].aval.shape
    name = eqn.primitive.name
    seeing = [v for v in views if v is not None]
    if name in _ELEMENTWISE:
        return joined([v for v in seeing if v.shape == shape] or [v.opaque(shape) for v in seeing])
    if name == "dot_general":
        return _dot(eqn, views, shape)
    rule = _RULES.get(name)
    if rule is not None and views[0] is not None and len(seeing) == 1:
        return rule(eqn, views[0], shape)
    if name == "concatenate":
        return concatenated(seeing, eqn.params["dimension"], shape[eqn.params["dimension"]])
    if name.startswith(("reduce_", "arg")) and "axes" in eqn.params and len(seeing) == 1:
        return seeing[0].reduced(eqn.params["axes"])
    return joined([v.opaque(shape) for v in seeing])


def _convolution(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
    p = eqn.params
    batch, feature, *spatial = p["dimension_numbers"].lhs_spec
    out_batch, _, *out_spatial = p["dimension_numbers"].out_spec
    kernel, rhs_spec = eqn.invars[1].aval.shape, p["dimension_numbers"].rhs_spec
    if any(d != 1 for d in p["lhs_dilation"]):
        return view.opaque(shape)
    view = view.blurred([feature])
    for i, (source, target) in enumerate(zip(spatial, out_spatial, strict=True)):
        view = view.windowed(
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
    return view.arranged(shape, sources)


def _reduce_window(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
    p = eqn.params
    if any(d != 1 for d in p["base_dilation"]):
        return view.opaque(shape)
    for axis, places in enumerate(shape):
        view = view.windowed(
            axis,
            places,
            p["window_dimensions"][axis],
            stride=p["window_strides"][axis],
            dilation=p["window_dilation"][axis],
            before=p["padding"][axis][0],
        )
    return view


def _slice(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
    strides = eqn.params["strides"] or (1,) * len(shape)
    for axis, (start, stride) in enumerate(zip(eqn.params["start_indices"], strides, strict=True)):
        view = view.windowed(axis, shape[axis], stride=stride, before=-start)
    return view


def _pad(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
    if any(interior for _, _, interior in eqn.params["padding_config"]):
        return view.opaque(shape)
    for axis, (before, _, _) in enumerate(eqn.params["padding_config"]):
        view = view.windowed(axis, shape[axis], before=before)
    return view


def _broadcast(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
    placed = {target: source for source, target in enumerate(eqn.params["broadcast_dimensions"])}
    return view.arranged(shape, [placed.get(i) for i in range(len(shape))])


def _same_but(parameter: str) -> Callable[[Any, View, tuple[int, ...]], View]:
    """Of operations along one axis, after which the others are as they were."""

    def rule(eqn: Any, view: View, shape: tuple[int, ...]) -> View:
        axes = eqn.params[parameter]
        return view.blurred(axes if isinstance(axes, tuple) else (axes,))

    return rule


def _dot(eqn: Any, views: Views, shape: tuple[int, ...]) -> View:
    """Batch axes come first, then the free ones of the left, then those of the right."""
    contracting, batch = eqn.params["dimension_numbers"]
    count, arranged = len(batch[0]), []
    both = all(v is not None for v in views)
    first = count
    for side, view in enumerate(views):
        rank = len(eqn.invars[side].aval.shape)
        free = [a for a in range(rank) if a not in (*contracting[side], *batch[side])]
        if view is not None:
            view = view.blurred([*contracting[side], *(free if both else ())])
            sources: list[int | None] = [*batch[side], *[None] * (len(shape) - count)]
            sources[first : first + len(free)] = free
            arranged.append(view.arranged(shape, sources))
        first += len(free)
    return joined(arranged)


_RULES: dict[str, Callable[[Any, View, tuple[int, ...]], View]] = {
    "conv_general_dilated": _convolution,
    "reduce_window_max": _reduce_window,
    "reduce_window_min": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "reduce_window": _reduce_window,
    "slice": _slice,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda eqn, view, shape: view.reshaped(shape),
    "squeeze": lambda eqn, view, shape: view.reduced(eqn.params["dimensions"]),
    "expand_dims": lambda eqn, view, shape: view.reshaped(shape),
    "transpose": lambda eqn, view, shape: view.arranged(shape, eqn.params["permutation"]),
    "rev": _same_but("dimensions"),
    "cumsum": _same_but("axis"),
    "cumprod": _same_but("axis"),
    "cummax": _same_but("axis"),
    "cumlogsumexp": _same_but("axis"),
}
