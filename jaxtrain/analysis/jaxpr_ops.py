"""Names of jaxpr equations and flax modules in a table of layers."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.extend import core

from jaxtrain.analysis.cost import equation_flops
from jaxtrain.nn.activations import PReLU
from jaxtrain.nn.dropout import Dropout
from jaxtrain.nn.normalization import BatchNorm

NORMS: dict[type, str] = {
    BatchNorm: "batch norm",
    nn.BatchNorm: "batch norm",
    nn.LayerNorm: "layer norm",
    nn.InstanceNorm: "instance norm",
    nn.GroupNorm: "group norm",
    nn.RMSNorm: "RMS norm",
}
"""Normalization modules, each of which is one layer. As usual, receptive fields ignore that statistics may cover the
whole image."""

ABBREVIATIONS = {"batch norm": "BN", "layer norm": "LN", "instance norm": "IN", "group norm": "GN"}
"""Abbreviations of normalizations, for the row of the layer before them."""

OTHER_MODULES: dict[type, str] = {PReLU: "prelu", nn.PReLU: "prelu", Dropout: "dropout", nn.Dropout: "dropout"}
"""Other modules that are one layer, with the layer's name."""

STATISTICS = frozenset(
    {"reduce_sum", "reduce_max", "reduce_min", "dot_general", "reduce_window_sum", "reduce_and", "reduce_or"}
)
"""Primitives that compute the statistics inside a normalization."""

LOOPS = {"scan": "loop", "while": "loop", "cond": "branch"}
"""Control-flow primitives, each shown as one layer, with the layer's name."""

CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}
)
"""Primitives that call one inner jaxpr."""

_ACTIVATIONS = {
    "tanh": "tanh",
    "logistic": "sigmoid",
    "erf": "gelu",
    "erfc": "gelu",
    "exp": "exp",
    "expm1": "elu",
    "log1p": "softplus",
    "sin": "sin",
    "clamp": "clip",
}
_JOINS = {"add": "add", "add_any": "add", "mul": "multiply", "max": "maximum", "sub": "subtract", "div": "divide"}
_REDUCTIONS = {"max": "max", "sum": "sum", "min": "min", "prod": "product"}


def join_name(primitive: str) -> str:
    """Return the name of a layer that joins two feature maps."""
    return _JOINS.get(primitive, primitive)


def activation_name(eqn: Any, dependent: Sequence[bool]) -> str:
    """Return the name of the activation that an elementwise equation computes, or "" if it computes none.

    Args:
      eqn: the equation.
      dependent: whether each operand depends on the images.
    """
    name = eqn.primitive.name
    if name == "select_n" and dependent[0]:
        return "activation"
    constants = [v.val for v in eqn.invars if isinstance(v, core.Literal)]
    if name == "max" and len(constants) == 1 and constants[0] == 0:
        return "relu"
    return _ACTIVATIONS.get(name, "")


def jax_nn_activation(eqn: Any) -> str:
    """Return the name of the `jax.nn` function that an equation calls on one feature map, or "" for any other call."""
    name = str(eqn.params.get("name", ""))
    same_shape = len(eqn.outvars) == 1 and any(v.aval.shape == eqn.outvars[0].aval.shape for v in eqn.invars)
    return name if same_shape and name in vars(jax.nn) and not equation_flops(eqn) else ""


def describe_convolution(eqn: Any) -> str:
    """Return a convolution as text: `conv 3x3/2 pad 1 groups 32`."""
    p = eqn.params
    kernel, spec = eqn.invars[1].aval.shape, p["dimension_numbers"].rhs_spec
    window = _describe_window([kernel[d] for d in spec[2:]], p["window_strides"], p["padding"])
    dilation = f" dilation {_join_sizes(p['rhs_dilation'])}" if any(d != 1 for d in p["rhs_dilation"]) else ""
    transposed = "transposed " if any(d != 1 for d in p["lhs_dilation"]) else ""
    groups = f" groups {p['feature_group_count']}" if p["feature_group_count"] != 1 else ""
    return f"{transposed}conv {window}{dilation}{groups}"


def describe_window_pooling(eqn: Any, axes: Sequence[int]) -> str:
    """Return a pooling with a window over `axes` as text: `max pool 3x3/2 pad 1`."""
    p = eqn.params
    window = [[p[k][a] for a in axes] for k in ("window_dimensions", "window_strides", "padding")]
    return f"{reduction_name(eqn)} pool {_describe_window(*window)}"


def describe_tile_pooling(eqn: Any, lengths: Sequence[int]) -> str:
    """Return a pooling of the tiles that a reshape made as text: `max pool 2x2/2`."""
    return f"{reduction_name(eqn)} pool {_describe_window(lengths, lengths, [(0, 0)] * len(lengths))}"


def reduction_name(eqn: Any) -> str:
    """Return the kind of a reduction, such as `max` or `sum`."""
    name = eqn.primitive.name.removeprefix("reduce_window_").removeprefix("reduce_")
    return _REDUCTIONS.get(name, name)


def _describe_window(sizes: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> str:
    step = f"/{_join_sizes(strides)}" if any(s != 1 for s in strides) else ""
    return "x".join(map(str, sizes)) + step + _describe_padding([(int(a), int(b)) for a, b in padding])


def _describe_padding(padding: Sequence[tuple[int, int]]) -> str:
    if not any(map(any, padding)):
        return ""
    ends = dict.fromkeys(str(a) if a == b else f"{a},{b}" for a, b in padding)
    return f" pad {'x'.join(ends)}"


def _join_sizes(values: Sequence[int]) -> str:
    return "x".join(str(v) for v in dict.fromkeys(values))
