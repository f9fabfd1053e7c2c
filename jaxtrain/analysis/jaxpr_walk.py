"""Walk a jaxpr and its inner jaxprs, and hand each equation that depends on the images to `LayerFinder`."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from jaxtrain.analysis.cost import equation_flops
from jaxtrain.analysis.jaxpr_ops import CALLS, STATISTICS, jax_nn_activation
from jaxtrain.analysis.layers import LayerFinder, Path, TracedLayer, TracedValue
from jaxtrain.analysis.receptive_field import ReceptiveFields, propagate


def find_layers(jaxpr: core.Jaxpr, leaves: int, modules: Mapping[Path, type]) -> list[TracedLayer]:
    """The layers of a network, the input first.

    Args:
      jaxpr: of its call; the inputs are its variables and then the images `[N, *sides, C]`.
      leaves: how many variables.
      modules: the class of each module that is called, by path.
    """
    walk = _Walk(LayerFinder(modules, jaxpr.invars[leaves].aval), modules)
    fields = walk.layers.found[0].fields
    walk.through(jaxpr, (), [*(TracedValue(leaves=frozenset({i})) for i in range(leaves)), TracedValue(fields, 0)])
    return walk.layers.found


class _Walk:
    def __init__(self, layers: LayerFinder, modules: Mapping[Path, type]):
        self.layers = layers
        self._known = {path[:i] for path in modules for i in range(len(path) + 1)}
        self._taken: set[int] = set()
        self._pending = 0  # flops of what depends on parameters alone; the layer that uses it is charged with them
        self._batch: int = layers.found[0].shape[0]

    def through(self, jaxpr: core.Jaxpr, base: Path, inputs: Sequence[TracedValue]) -> list[TracedValue]:
        """What is known of the results, after all of the equations."""
        values = dict(zip(jaxpr.invars, inputs, strict=True))
        uses = collections.Counter(v for e in jaxpr.eqns for v in e.invars if not isinstance(v, core.Literal))
        uses.update(v for v in jaxpr.outvars if not isinstance(v, core.Literal))

        def value(atom: Any) -> TracedValue:
            return TracedValue() if isinstance(atom, core.Literal) else values.get(atom, TracedValue())

        for eqn in jaxpr.eqns:
            path = self._path(base, str(eqn.source_info.name_stack))
            last_use = [isinstance(v, core.Literal) or uses[v] == 1 for v in eqn.invars]
            results = self._equation(eqn, path, [value(v) for v in eqn.invars], last_use)
            values.update(zip(eqn.outvars, results, strict=True))
        return [value(v) for v in jaxpr.outvars]

    def _path(self, base: Path, stack: str) -> Path:
        """The innermost module of a stack of names, among which are methods and scopes of other kinds too."""
        for name in stack.split("/"):
            if (*base, name) in self._known:
                base = (*base, name)
        return base

    def _equation(self, eqn: Any, path: Path, operands: list[TracedValue], last_use: list[bool]) -> list[TracedValue]:
        leaves = frozenset[int]().union(*(v.leaves for v in operands))
        constant = [TracedValue(leaves=leaves)] * len(eqn.outvars)
        seeing = [v for v in operands if v.fields is not None]
        if not seeing:
            self._pending += self._batch * equation_flops(eqn)  # once for each image, as all else
            return constant
        if eqn.primitive.name in CALLS:
            name = jax_nn_activation(eqn) if len(seeing) == 1 else ""
            if name and seeing[0].fields is not None:
                return [TracedValue(seeing[0].fields, self.layers.add_activation(eqn, path, seeing[0], name))]
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            return self.through(getattr(inner, "jaxpr", inner), path, operands)
        if self.layers.in_normalization(path) and eqn.primitive.name in STATISTICS:
            return constant  # which count as such: receptive fields leave them out
        fields = propagate(eqn, [v.fields for v in operands])
        number = self.layers.assign(eqn, path, operands, fields, last_use)
        self._charge(self.layers.found[number], leaves, equation_flops(eqn))
        return [TracedValue(_fit_shape(fields, v.aval.shape), number) for v in eqn.outvars]

    def _charge(self, layer: TracedLayer, leaves: frozenset[int], flops: int) -> None:
        """A layer has the variables that it is the first to use."""
        layer.leaves += sorted(leaves - self._taken)
        self._taken |= leaves
        layer.flops += flops + self._pending
        self._pending = 0


def _fit_shape(fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    return fields if fields.shape == tuple(shape) else fields.merge_all(shape)
