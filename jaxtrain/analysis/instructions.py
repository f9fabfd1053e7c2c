"""What XLA's compiler for CPUs makes of a program: fused instructions, of which each writes one buffer or more.

Elementwise work has a buffer where something reads it that takes only whole arrays (a product, a convolution, a
reduction), or where it is dear and read more than once; else it is done again in what reads it. Convolutions take their
operands in one order of axes, so that those of gradients are copied into it.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from jaxtrain.analysis.flattening import Operation, Program, Value
from jaxtrain.xla_cpu.convolutions.tasks import task_of

_LIGHT_NAMES = """
abs add add_any and broadcast_in_dim cbrt ceil clamp concatenate convert_element_type cos div dynamic_slice eq erf
erf_inv erfc exp exp2 expm1 floor ge gt integer_pow iota is_finite le log log1p logistic lt max min mul ne neg
nextafter not or pad polynomial pow real reduce_precision rem rev round rsqrt select_and_gather_add select_n shift_left
shift_right_arithmetic shift_right_logical sign sin slice split sqrt square sub tan tanh transpose xor random_wrap
random_unwrap copy_p full
"""
_LIGHT = frozenset(_LIGHT_NAMES.split())
"""Operations that can be fused into what reads their result."""
_DEAR_NAMES = """
concatenate cbrt cos erf erf_inv erfc exp exp2 expm1 log log1p logistic pow rsqrt sin sqrt tan tanh
"""
_DEAR = frozenset(_DEAR_NAMES.split())
_HALF = ("bfloat16", "float16")
_ABSORBED = frozenset({"square", "integer_pow", "mul", "convert_element_type"})
"""What a reduction does while it reads."""
_REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min"})


@dataclasses.dataclass(eq=False)
class Instruction:
    """A step of the compiled program.

    Attributes:
      writes: the buffers it writes, in bytes; 0 for one that is an argument's, written in place.
      reads: the instructions whose buffers it reads.
      scratch: bytes in use while it runs.
      fused: whether it is elementwise, and may write where it reads for the last time.
      of_argument: whether it is the copy of an argument.
    """

    writes: int
    reads: tuple["Instruction", ...]
    scratch: int = 0
    fused: bool = False
    of_argument: bool = False


class Compiler:
    """Makes instructions of a program.

    Args:
      program: flat.
      given: of the arguments, those whose buffer the result of the same place takes.
      inside: the peak of an operation with jaxprs inside it.
      in_place: whether no argument is copied before its result is written over it.
      native: whether there are native convolutions, which take their operands as they lie.
    """

    def __init__(self, program: Program, given: int, inside: Any, *, in_place: bool = False, native: bool = False):
        self._program, self._inside, self._in_place, self._native = program, inside, in_place, native
        self._makers = {id(v): op for op in program.operations for v in op.results}
        self._readers: dict[int, list[Operation]] = {}
        for op in program.operations:
            for v in op.operands:
                self._readers.setdefault(id(v), []).append(op)
        products = [op for op in program.operations if op.name in ("dot_general", "conv_general_dilated")]
        self._wide = {id(v) for op in products for v in (*op.operands, *op.results)}
        self._results = {id(v): i for i, v in enumerate(program.results)}
        self._given = {i for i, v in enumerate(program.results) if i < given and v is not None}
        self._kept = self._stored()
        self._buffers: dict[int, Instruction] = {}
        self._copies: dict[tuple[int, Any], Instruction] = {}
        self._left: list[int] = []
        self.instructions: list[Instruction] = []

    def compiled(self) -> list[Instruction]:
        """The instructions, each after those it reads."""
        self._copied_arguments()
        for op in self._program.operations:
            if op.name not in _LIGHT:
                self._heavy(op)
                continue
            for v in op.results:
                if id(v) in self._kept:
                    self._write(v, self._size(v), self._sources(op.operands, through=True), fused=True)
        return self.instructions

    def slots(self) -> list[tuple[int, Instruction]]:
        """Bytes of the arguments that were copied, whose own buffers are free until the result is written there."""
        results = ((place, self._program.results[place]) for place in self._left)
        ends = ((place, self._buffers.get(id(v))) for place, v in results)
        return [(self._program.arguments[place].bytes, end) for place, end in ends if end is not None]

    def _heavy(self, op: Operation) -> None:
        if op.name == "conv_general_dilated":
            pairs = zip(op.operands, self._specs(op), strict=False)
            reads = tuple(i for v, spec in pairs for i in self._ordered(v, spec))
        elif op.name in _REDUCTIONS:
            reads = self._sources(self._read_by_reduction(op))
        else:
            reads = self._sources(op.operands)
        scratch = self._inside(op)
        for v in op.results:
            self._write(v, self._size(v), reads, scratch=scratch)

    def _ordered(self, v: Value, spec: Any) -> tuple[Instruction, ...]:
        """The operand of a convolution, in the order of axes that it takes."""
        if spec is None:
            return self._sources((v,))
        key = (id(v), spec)
        if key not in self._copies:
            copy = Instruction(self._size(v), self._sources((v,), through=True), fused=True)
            self.instructions.append(copy)
            self._copies[key] = copy
        return (self._copies[key],)

    def _copied_arguments(self) -> None:
        """An argument whose buffer a result takes is copied first, where others read it besides that result."""
        for place in () if self._in_place else sorted(self._given):
            argument = self._program.arguments[place]
            if len(self._heavy_readers(argument)) > 1:
                self._write(argument, argument.bytes, (), fused=True)
                self.instructions[-1].of_argument = True
                self._left.append(place)

    def _heavy_readers(self, v: Value) -> set[int]:
        found: set[int] = set()
        for op in self._readers.get(id(v), []):
            if op.name not in _LIGHT or any(id(r) in self._kept - self._results.keys() for r in op.results):
                found.add(id(op))
            else:
                for r in op.results:
                    found |= self._heavy_readers(r) if r.bytes <= v.bytes else {id(op)}
        return found

    def _write(
        self, v: Value, size: int, reads: tuple[Instruction, ...], *, scratch: int = 0, fused: bool = False
    ) -> None:
        instruction = Instruction(size, reads, scratch, fused)
        self.instructions.append(instruction)
        self._buffers[id(v)] = instruction

    def _sources(self, values: Iterable[Value], *, through: bool = False) -> tuple[Instruction, ...]:
        """The instructions that write what `values` are made of, through what is fused."""
        found: dict[int, Instruction] = {}
        seen: set[int] = set()
        todo = list(values)
        while todo:
            v = todo.pop()
            if id(v) in seen:
                continue
            seen.add(id(v))
            if id(v) in self._buffers and not (through and self._again(v)):
                found[id(self._buffers[id(v)])] = self._buffers[id(v)]
            elif id(v) in self._makers:
                todo += self._makers[id(v)].operands
        return tuple(found.values())

    def _again(self, v: Value) -> bool:
        """Whether what has a buffer is computed once more in fused work that reads it, as XLA does with one operand."""
        maker = self._makers.get(id(v))
        if maker is None or maker.name not in _LIGHT or _is_dear(maker):
            return False
        return sum(o.shape == v.shape and self._is_whole(o) for o in maker.operands) <= 1

    def _stored(self) -> set[int]:
        """Results of elementwise work that have a buffer."""
        kept = set(self._results)
        for op in self._program.operations:
            if op.name in _LIGHT:
                continue
            if op.name == "conv_general_dilated":
                kept |= {id(v) for v, spec in zip(op.operands, self._specs(op), strict=False) if spec is None}
            elif op.name in _REDUCTIONS:
                kept |= {id(v) for v in self._read_by_reduction(op)}
            else:
                kept |= {id(v) for v in op.operands}
        ends: dict[int, set[int]] = {}
        for op in reversed(self._program.operations):  # what reads a value is settled before it is
            for v in op.results:
                if _is_dear(op) and len(self._ends(v, ends)) > 1:
                    kept.add(id(v))
                stays = id(v) in kept or op.name not in _LIGHT
                ends[id(v)] = {id(v)} if stays else self._ends(v, ends)
        return kept

    def _ends(self, v: Value, ends: dict[int, set[int]]) -> set[int]:
        """The instructions that `v` is fused into: those that all that reads it ends in; two stand for more."""
        found: set[int] = set()
        for reader in self._readers.get(id(v), []):
            for result in reader.results:
                found |= ends[id(result)]
                if len(found) > 1:
                    return found
        return found

    def _specs(self, op: Operation) -> tuple[Any, Any]:
        """How the operands of a convolution are to be reordered; None for one that lies as it should."""
        lhs, rhs, out = (jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (*op.operands, *op.results))
        if self._native and task_of(lhs, rhs, out, **op.params) is not None:
            return None, None
        numbers, rank = op.params["dimension_numbers"], len(out.shape)
        image = (0, rank - 1, *range(1, rank - 1))
        kernel = (rank - 1, rank - 2, *range(rank - 2))
        lhs_spec = None if numbers.lhs_spec == image else numbers.lhs_spec
        return lhs_spec, None if numbers.rhs_spec == kernel else numbers.rhs_spec

    def _read_by_reduction(self, op: Operation) -> Iterator[Value]:
        (v,) = op.operands[:1] or (None,)
        if v is None:
            return
        maker = self._makers.get(id(v))
        whole = maker is not None and all(o.shape == v.shape and o.dtype != "bool" for o in maker.operands)
        if maker is not None and whole and maker.name in _ABSORBED and len(self._readers[id(v)]) == 1:
            yield from maker.operands
        else:
            yield v

    def _is_whole(self, v: Value) -> bool:
        maker = self._makers.get(id(v))
        return maker is None or maker.name != "broadcast_in_dim"

    def _size(self, v: Value) -> int:
        """Bytes of its buffer; none for a result, whose buffer is the caller's.

        Products and convolutions of half precision are computed in float32.
        """
        if id(v) in self._results:
            return 0
        wide = v.bytes * 2 if id(v) in self._wide and v.dtype in _HALF else v.bytes
        return 2 * wide if self._shares_its_exponential(v) else wide

    def _shares_its_exponential(self, v: Value) -> bool:
        """Whether the gradient of an error function reads the exponential inside it, exp(-x^2), which is then kept."""
        maker = self._makers.get(id(v))
        if maker is None or maker.name not in ("erf", "erfc"):
            return False
        return any(reader.name == "square" for x in maker.operands for reader in self._readers[id(x)])


def _is_dear(op: Operation) -> bool:
    """Whether what is read more than once is kept, and not computed once more in each that reads it."""
    if op.name == "convert_element_type":
        (operand,) = op.operands[:1] or (None,)
        return operand is not None and (operand.dtype == "bool" or op.results[0].dtype in _HALF)
    return op.name in _DEAR
