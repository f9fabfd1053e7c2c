"""What a step costs, counted on its jaxpr: multiply-adds of products and convolutions, and memory in use at the worst
moment. Nothing is compiled.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

_LIGHT_NAMES = """
abs add and broadcast_in_dim ceil convert_element_type copy div eq exp expand_dims floor ge gt integer_pow iota
is_finite le log log1p logistic lt max min mul ne neg not or pow real reshape rsqrt select_n sign slice sqrt square
squeeze stop_gradient sub tanh transpose
"""
_LIGHT = frozenset(_LIGHT_NAMES.split())
"""Operations that XLA fuses into their consumers; their results take no memory of their own unless a heavy one
reads them."""


def flops(jaxpr: core.Jaxpr) -> int:
    """Floating-point operations of `dot_general` and `conv_general_dilated`, two a multiply-add.

    Convolutions are counted with their padded taps, zeros inserted by strides left out; loops by their length, and
    the dearest branch of a condition. Everything elementwise is left out.
    """
    return sum(map(equation_flops, jaxpr.eqns))


def equation_flops(eqn: Any) -> int:
    """`flops` of one equation of a jaxpr, with what is inside it."""
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
    return repeat * sum(map(flops, _inner(eqn)))


def _conv_flops(eqn: Any) -> int:
    kernel = eqn.invars[1].aval.shape
    output_feature = eqn.params["dimension_numbers"].rhs_spec[0]
    taps = math.prod(kernel) // kernel[output_feature]
    dilation = math.prod(eqn.params["lhs_dilation"])
    return 2 * _size(eqn.outvars[0]) * taps // dilation


def peak_bytes(jaxpr: core.Jaxpr) -> int:
    """An estimate of the bytes that intermediate values take at the worst moment, arguments and results left out.

    Values live from the operation that makes them to the last that reads them; results of light operations that only
    light ones read are taken to be fused away.
    """
    heavy_reads = {v for eqn in jaxpr.eqns if eqn.primitive.name not in _LIGHT for v in _variables(eqn.invars)}
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in _variables(eqn.invars)}
    results = set(_variables(jaxpr.outvars))
    live = peak = 0
    ends: dict[int, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        inner = max((peak_bytes(j) for j in _inner(eqn)), default=0)
        for v in eqn.outvars:
            stored = eqn.primitive.name not in _LIGHT or v in heavy_reads
            if stored and v in last and v not in results:
                size = _bytes(v)
                live += size
                ends[last[v]] = ends.get(last[v], 0) + size
        peak = max(peak, live + inner)
        live -= ends.pop(i, 0)
    return peak


def tree_bytes(tree: Any) -> int:
    """Bytes of all leaves."""
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def _variables(atoms: Any) -> Iterator[Any]:
    return (a for a in atoms if not isinstance(a, core.Literal))


def _inner(eqn: Any) -> Iterator[core.Jaxpr]:
    """The jaxprs inside an equation."""
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


def _bytes(var: Any) -> int:
    dtype = var.aval.dtype
    return _size(var) * (dtype.itemsize if isinstance(dtype, np.dtype) else 8)  # keys are extended dtypes
