"""FLOPs of matrix multiplications and convolutions, counted on a jaxpr without compiling, and bytes of a tree."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


def flops(jaxpr: core.Jaxpr) -> int:
    """Count the floating-point operations of `dot_general` and `conv_general_dilated`, two per multiply-add.

    Convolutions include the taps on padding, but not those on the zeros that strides insert (`lhs_dilation`). The body
    of a scan counts once per iteration, and a `cond` counts as its most expensive branch. Elementwise operations are
    not counted.
    """
    return sum(map(equation_flops, jaxpr.eqns))


def equation_flops(eqn: Any) -> int:
    """Count the `flops` of one equation of a jaxpr, including its inner jaxprs."""
    name = eqn.primitive.name
    if name == "dot_general":
        (contract, _), _ = eqn.params["dimension_numbers"]
        lhs = _shape(eqn.invars[0])
        return 2 * _size(eqn.outvars[0]) * math.prod(lhs[d] for d in contract)
    if name == "conv_general_dilated":
        return _conv_flops(eqn)
    if name == "cond":
        return max(flops(branch.jaxpr) for branch in eqn.params["branches"])
    repeat = eqn.params.get("length", 1) if name == "scan" else 1
    return repeat * sum(map(flops, inner_jaxprs(eqn)))


def _conv_flops(eqn: Any) -> int:
    kernel = eqn.invars[1].aval.shape
    output_feature = eqn.params["dimension_numbers"].rhs_spec[0]
    taps = math.prod(kernel) // kernel[output_feature]
    dilation = math.prod(eqn.params["lhs_dilation"])
    return 2 * _size(eqn.outvars[0]) * taps // dilation


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all leaves of `tree`."""
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def inner_jaxprs(eqn: Any) -> Iterator[core.Jaxpr]:
    """Yield the jaxprs among the parameters of an equation."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _shape(var: Any) -> tuple[int, ...]:
    return tuple(var.aval.shape)


def _size(var: Any) -> int:
    return math.prod(_shape(var))
