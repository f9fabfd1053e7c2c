"""The walk through a jaxpr and its inner jaxprs that passes each equation on the images to a `LayerFinder`."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from jaxtrain.analysis.cost import equation_flops
from jaxtrain.analysis.jaxpr_ops import CALLS, STATISTICS, jax_nn_activation
from jaxtrain.analysis.layer_finder import LayerFinder, Path, TracedLayer, TracedValue
from jaxtrain.analysis.receptive_field import ReceptiveFields, propagate


def find_layers(jaxpr: core.Jaxpr, leaves: int, modules: Mapping[Path, type]) -> list[TracedLayer]:
    """Find the layers of a network in its jaxpr; the first one is the input.

    Args:
      jaxpr: jaxpr of the network's call; its inputs are the variables and then the images `[N, *sides, C]`.
      leaves: number of variables.
      modules: class of each module that is called, by path.
    """
    walker = _Walker(LayerFinder(modules, jaxpr.invars[leaves].aval), modules)
    fields = walker.layers.found[0].fields
    walker.walk(jaxpr, (), [*(TracedValue(leaves=frozenset({i})) for i in range(leaves)), TracedValue(fields, 0)])
    return walker.layers.found


class _Walker:
    """The state of the walk: the layers, and the variables and FLOPs that they have been given."""

    def __init__(self, layers: LayerFinder, modules: Mapping[Path, type]):
        self.layers = layers
        self._known = {path[:i] for path in modules for i in range(len(path) + 1)}
        self._assigned: set[int] = set()  # variables that already belong to a layer
        self._pending_flops = 0  # of equations on parameters alone; added to the next layer
        self._batch: int = layers.found[0].shape[0]

    def walk(self, jaxpr: core.Jaxpr, base: Path, inputs: Sequence[TracedValue]) -> list[TracedValue]:
        """Process all equations and return the traced values of the results."""
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
        """Return the innermost module of a name stack, which also holds methods and other scopes."""
        for name in stack.split("/"):
            if (*base, name) in self._known:
                base = (*base, name)
        return base

    def _equation(self, eqn: Any, path: Path, operands: list[TracedValue], last_use: list[bool]) -> list[TracedValue]:
        leaves = frozenset[int]().union(*(v.leaves for v in operands))
        constant = [TracedValue(leaves=leaves)] * len(eqn.outvars)
        dependent = [v for v in operands if v.fields is not None]
        if not dependent:
            # counted once per image, as all other operations are
            self._pending_flops += self._batch * equation_flops(eqn)
            return constant
        if eqn.primitive.name in CALLS:
            name = jax_nn_activation(eqn) if len(dependent) == 1 else ""
            if name and dependent[0].fields is not None:
                return [TracedValue(dependent[0].fields, self.layers.add_activation(eqn, path, dependent[0], name))]
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            return self.walk(getattr(inner, "jaxpr", inner), path, operands)
        if self.layers.in_normalization(path) and eqn.primitive.name in STATISTICS:
            return constant  # statistics count as constants: receptive fields ignore them
        fields = propagate(eqn, [v.fields for v in operands])
        number = self.layers.assign(eqn, path, operands, fields, last_use)
        self._add_cost(self.layers.found[number], leaves, equation_flops(eqn))
        return [TracedValue(_fit_shape(fields, v.aval.shape), number) for v in eqn.outvars]

    def _add_cost(self, layer: TracedLayer, leaves: frozenset[int], flops: int) -> None:
        """Add FLOPs to a layer, and the variables that it is the first to use."""
        layer.leaves += sorted(leaves - self._assigned)
        self._assigned |= leaves
        layer.flops += flops + self._pending_flops
        self._pending_flops = 0


def _fit_shape(fields: ReceptiveFields, shape: tuple[int, ...]) -> ReceptiveFields:
    return fields if fields.shape == tuple(shape) else fields.merge_all(shape)
