"""A jaxpr as one list of operations: calls opened, what nothing reads left out, nothing computed twice."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jax.extend import core

from jaxtrain.analysis.cost import bytes_of, inner_jaxprs

_OPENED_NAMES = """
jit pjit closed_call core_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr remat2 checkpoint custom_lin
"""
OPENED = frozenset(_OPENED_NAMES.split())
"""Calls of the one jaxpr inside them, which a compiler opens."""
_ALIASES_NAMES = """
reshape squeeze expand_dims stop_gradient optimization_barrier bitcast_convert_type name sharding_constraint copy
mesh_cast reshard pvary
"""
ALIASES = frozenset(_ALIASES_NAMES.split())
"""Operations whose result lies where their operand lies."""

_STRETCHING_NAMES = "add atan2 div eq ge gt le lt max min mul ne nextafter pow rem sub"
_STRETCHING = frozenset(_STRETCHING_NAMES.split())
"""Operations of two arrays that repeat an axis of length 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """An array: its bytes, its dtype's name, and its shape."""

    bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """An equation whose operands and results are `Value`s; constants are left out."""

    name: str
    params: dict[str, Any]
    operands: tuple[Value, ...]
    results: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A flat jaxpr."""

    arguments: tuple[Value, ...]
    operations: tuple[Operation, ...]
    results: tuple[Value | None, ...]

    def made_inside(self, place: int) -> "Program":
        """The same with an argument that elementwise work makes, of something that lies there already."""
        making = Operation("mul", {}, (), (self.arguments[place],))
        return dataclasses.replace(self, operations=(making, *self.operations))


def flattened(jaxpr: core.Jaxpr) -> Program:
    """The operations of a jaxpr in order, with the calls in it opened; loops and branches stay as they are."""
    opened = _Opened()
    arguments = tuple(_value(v) for v in jaxpr.invars)
    constants = [_value(v) for v in jaxpr.constvars]
    known: dict[Any, Value | None] = dict(zip((*jaxpr.invars, *jaxpr.constvars), (*arguments, *constants), strict=True))
    opened.through(jaxpr, known)
    results = tuple(_read(known, v) for v in jaxpr.outvars)
    return Program(arguments, tuple(_used(opened.operations, results)), results)


class _Opened:
    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._seen: dict[Any, tuple[Value, ...]] = {}

    def through(self, jaxpr: core.Jaxpr, known: dict[Any, Value | None]) -> None:
        """Adds the equations of a jaxpr, whose inputs are known."""
        for eqn in jaxpr.eqns:
            operands = [_read(known, v) for v in eqn.invars]
            name = eqn.primitive.name
            inner = next(inner_jaxprs(eqn), None) if name in OPENED else None
            if inner is not None:
                within: dict[Any, Value | None] = dict(zip(inner.invars, operands[-len(inner.invars) :], strict=True))
                within |= dict.fromkeys(inner.constvars)
                self.through(inner, within)
                results = [_read(within, v) for v in inner.outvars]
            elif name in ALIASES and operands[0] is not None and len(operands) == len(eqn.outvars):
                results = list(operands)
            else:
                results = list(self._operation(eqn, name, self._stretched(eqn, operands)))
            known |= dict(zip(eqn.outvars, results, strict=True))

    def _stretched(self, eqn: Any, operands: Sequence[Value | None]) -> list[Value | None]:
        """The operands at the shape of the result: repeating an axis of length 1 becomes an operation of its own."""
        if eqn.primitive.name not in _STRETCHING:
            return list(operands)
        shape = tuple(eqn.outvars[0].aval.shape)
        return [v if v is None or v.shape == shape else self._repeated(v, shape) for v in operands]

    def _repeated(self, v: Value, shape: tuple[int, ...]) -> Value:
        key = ("broadcast_in_dim", str(shape), (), (id(v),))
        if key not in self._seen:
            size = v.bytes * math.prod(shape) // max(math.prod(v.shape), 1)
            self._seen[key] = (Value(size, v.dtype, shape),)
            self.operations.append(Operation("broadcast_in_dim", {}, (v,), self._seen[key]))
        return self._seen[key][0]

    def _operation(self, eqn: Any, name: str, operands: Sequence[Value | None]) -> tuple[Value, ...]:
        literals = tuple(str(v) for v in eqn.invars if isinstance(v, core.Literal))
        key = (name, str(eqn.params), literals, tuple(id(v) for v in operands))
        if key in self._seen and not eqn.effects:
            return self._seen[key]
        results = tuple(_value(v) for v in eqn.outvars)
        self.operations.append(Operation(name, eqn.params, tuple(v for v in operands if v is not None), results))
        self._seen[key] = results
        return results


def _used(operations: Sequence[Operation], results: Sequence[Value | None]) -> list[Operation]:
    wanted = {id(v) for v in results}
    kept = []
    for operation in reversed(operations):
        if any(id(v) in wanted for v in operation.results):
            wanted |= {id(v) for v in operation.operands}
            kept.append(operation)
    return kept[::-1]


def _value(var: Any) -> Value:
    return Value(bytes_of(var), str(var.aval.dtype), tuple(var.aval.shape))


def _read(known: dict[Any, Any], atom: Any) -> Value | None:
    return None if isinstance(atom, core.Literal) else known[atom]
