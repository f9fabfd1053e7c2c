"""How much memory a compiled step takes, estimated on its jaxpr: the buffers of its instructions, in XLA's order."""

import collections
import functools
from collections.abc import Sequence

from jax.extend import core

from jaxtrain.analysis.cost import inner_jaxprs_of
from jaxtrain.analysis.flattening import Operation, flattened
from jaxtrain.analysis.instructions import Compiler, Instruction

_WORTH_PLACING = 1e-3
"""Share of the largest buffer, below which another does not change the sum."""


def temporary_bytes(
    jaxpr: core.Jaxpr, given: int = 0, *, made: int | None = None, in_place: bool = False, native: bool = False
) -> int:
    """Bytes in use at the worst moment besides arguments and results.

    Args:
      jaxpr: of a step.
      given: how many of the first arguments are donated, and taken by as many of the first results.
      made: the place of an argument that is made within the program, by elementwise work: of images, the normalized.
      in_place: whether results are written over the first arguments without copying any of them.
      native: whether there are native convolutions.
    """
    program = flattened(jaxpr)
    if made is not None:
        program = program.made_inside(made)
    inside = functools.partial(_inside, native=native)
    compiler = Compiler(program, given, inside, in_place=in_place, native=native)
    order = _in_order(compiler.compiled())
    return _peak(order, _elsewhere(order, compiler.slots()))


def _inside(op: Operation, *, native: bool) -> int:
    """Of a loop or a branch: what its body takes."""
    return max((temporary_bytes(inner, native=native) for inner in inner_jaxprs_of(op.params)), default=0)


def _in_order(instructions: Sequence[Instruction]) -> list[Instruction]:
    """First come, first served, among those whose operands are there: the order of XLA's compiler for CPUs."""
    waiting = {id(i): len(set(map(id, i.reads))) for i in instructions}
    readers: dict[int, list[Instruction]] = collections.defaultdict(list)
    for i in instructions:
        for r in {id(r): r for r in i.reads}.values():
            readers[id(r)].append(i)
    ready = collections.deque(i for i in instructions if not waiting[id(i)])
    order = []
    while ready:
        i = ready.popleft()
        order.append(i)
        for reader in readers[id(i)]:
            waiting[id(reader)] -= 1
            if not waiting[id(reader)]:
                ready.append(reader)
    return order


def _elsewhere(order: Sequence[Instruction], slots: Sequence[tuple[int, Instruction]]) -> set[int]:
    """The instructions whose buffers lie where arguments lay, for as long as results are not yet written there."""
    places = {id(i): at for at, i in enumerate(order)}
    last = _last_reads(order)
    taken: list[list[tuple[int, int, Instruction]]] = [[] for _ in slots]
    least = max((i.writes for i in order), default=0) * _WORTH_PLACING
    by_size = sorted((s for s in range(len(slots)) if slots[s][0] > least), key=lambda s: slots[s][0])
    hosted = set()
    for i in sorted((i for i in order if i.writes > least), key=lambda i: -i.writes):
        begin, end = places[id(i)], last.get(id(i), places[id(i)])
        for s in by_size:
            size, result = slots[s]
            if i.writes > size or end >= places[id(result)] or i.of_argument:
                continue
            if all(end < b + other.fused or e < begin + i.fused for b, e, other in taken[s]):
                taken[s].append((begin, end, i))
                hosted.add(id(i))
                break
    return hosted


def _peak(order: Sequence[Instruction], elsewhere: set[int]) -> int:
    """The most bytes at once: a buffer is there from the instruction that writes it to the last that reads it."""
    last = _last_reads(order)
    size = {id(i): 0 if id(i) in elsewhere else i.writes for i in order}
    live = peak = 0
    for at, i in enumerate(order):
        ended = [r for r in {id(r): r for r in i.reads}.values() if last[id(r)] == at]
        reused = next((r for r in ended if i.fused and size[id(r)] == size[id(i)]), None)
        if reused is not None:
            live -= size[id(reused)]
        live += size[id(i)]
        peak = max(peak, live + i.scratch)
        live -= sum(size[id(r)] for r in ended if r is not reused)
        if id(i) not in last:
            live -= size[id(i)]
    return peak


def _last_reads(order: Sequence[Instruction]) -> dict[int, int]:
    return {id(r): at for at, i in enumerate(order) for r in i.reads}
