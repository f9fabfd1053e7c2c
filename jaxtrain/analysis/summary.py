"""Summary of a model layer by layer: shapes, parameters, multiply-adds, memory and receptive fields, from a trace."""

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.analysis.cost import tree_bytes
from jaxtrain.analysis.jaxpr_walk import find_layers
from jaxtrain.analysis.layer_finder import Path, TracedLayer
from jaxtrain.analysis.layer_rows import LayerRow, ReceptiveField, fold_minor_layers, merge_layers
from jaxtrain.analysis.receptive_field import ReceptiveFields
from jaxtrain.optim.param_rules import path_name
from jaxtrain.random import MODEL_STREAMS

_BATCH = 2
"""The batch size of the trace. It is not 1, so that the batch axis differs from other axes of length 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary that `jaxtrain summary` prints.

    Attributes:
      layers: layers in the order of computation, the input first.
      classes: class names of the modules, by path.
      parameters: number of trained parameters.
      parameter_bytes: bytes of the trained parameters.
      statistics: number of values that are not trained, such as those of batch normalization.
      unused: number of parameters that are not used in this mode (training or evaluation), by the first name of
        their path.
    """

    layers: tuple[LayerRow, ...]
    classes: dict[Path, str]
    parameters: int
    parameter_bytes: int
    statistics: int
    unused: dict[str, int]

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of all layers, for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """The number of elements of the outputs of all layers, including the input, except minor layers."""
        return sum(layer.activations for layer in self.fold_minor())

    def fold_minor(self, depth: int | None = None) -> tuple[LayerRow, ...]:
        """Return the layers with each minor layer merged into the layer that it follows.

        Args:
          depth: depth of the modules to merge into one layer each; None merges no modules.
        """
        main = fold_minor_layers(self.layers)
        if depth is None:
            return main

        def block(numbered: tuple[int, LayerRow]) -> Path | int:
            number, layer = numbered
            return layer.path[:depth] if len(layer.path) >= depth else number

        groups = [list(group) for _, group in itertools.groupby(enumerate(main), block)]
        return tuple(
            merge_layers(group[0][1].path[:depth], [layer for _, layer in group], self.classes) for group in groups
        )


def summary(
    model: nn.Module, shape: Sequence[int], *, train: bool = False, dtype: jax.typing.DTypeLike = jnp.float32
) -> Summary:
    """Trace `model` and summarize its layers; nothing is computed or compiled.

    Args:
      model: Linen module that is called with `(images, train=...)`.
      shape: shape of an image: height, width, channels.
      train: whether to trace the model in training mode, with dropout and auxiliary heads.
      dtype: dtype of the images.

    Raises:
      ValueError: the model does not accept images of this shape.
    """
    images = jax.ShapeDtypeStruct((_BATCH, *shape), dtype)
    modules: dict[Path, type] = {}

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        modules.setdefault(context.module.path, type(context.module))
        return call(*args, **kwargs)

    def run(variables: Any, images: Any) -> Any:
        rngs = {name: jax.random.key(i) for i, name in enumerate(MODEL_STREAMS)}
        with nn.intercept_methods(record), nn.override_named_call(True):
            return model.apply(variables, images, train=train, rngs=rngs, mutable=nn.DenyList("intermediates"))

    init = functools.partial(model.init, train=False)
    variables = dict(jax.eval_shape(init, jax.random.key(0), images))
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    traced = find_layers(jax.make_jaxpr(run)(variables, images).jaxpr, len(leaves), modules)
    builder = _RowBuilder([(path_name(path).split("/"), leaf) for path, leaf in leaves], modules)
    params = variables.get("params", {})
    return Summary(
        layers=tuple(builder.make_layer(layer, shape) for layer in traced),
        classes={path: cls.__name__ for path, cls in modules.items()},
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(params)),
        parameter_bytes=tree_bytes(params),
        statistics=builder.count(range(len(leaves)), "statistics"),
        unused=builder.count_unused(traced),
    )


class _RowBuilder:
    """A converter of traced layers to rows with names and counts.

    Args:
      leaves: path, beginning with the collection, and shape of each variable.
      modules: paths of the modules that are called.
    """

    def __init__(self, leaves: Sequence[tuple[list[str], Any]], modules: Iterable[Path]):
        self._leaves = leaves
        self._containers = {path[:i] for path in modules for i in range(len(path))}
        self._kinds: dict[Path, str] = {}
        self._names: collections.Counter[str] = collections.Counter()

    def make_layer(self, layer: TracedLayer, image: Sequence[int]) -> LayerRow:
        """Return the row of a traced layer, with counts for one image."""
        elements = math.prod(layer.shape) // _BATCH
        return LayerRow(
            name=self._name(layer),
            kind=layer.kind,
            path=layer.path,
            shape=layer.shape[1:],
            dtype=jnp.dtype(layer.dtype).name,
            weights=self.count(layer.leaves, "weights"),
            biases=self.count(layer.leaves, "biases"),
            statistics=self.count(layer.leaves, "statistics"),
            multiply_adds=layer.flops // (2 * _BATCH),
            activations=elements,
            activation_bytes=elements * jnp.dtype(layer.dtype).itemsize,
            field=_field(layer.fields, image),
            minor=layer.minor,
            source=-1 if layer.made_of is None else layer.made_of,
        )

    def count(self, leaves: Iterable[int], kind: str) -> int:
        """Return the number of values of one kind among the leaves: weights, biases or statistics."""
        return sum(math.prod(self._leaves[i][1].shape) for i in leaves if self._kind(i) == kind)

    def count_unused(self, layers: Sequence[TracedLayer]) -> dict[str, int]:
        """Return the number of parameters that no layer uses, by the first name of their path."""
        used = {i for layer in layers for i in layer.leaves}
        counts: collections.Counter[str] = collections.Counter()
        for i, ((collection, *path), leaf) in enumerate(self._leaves):
            if collection == "params" and i not in used:
                counts[path[0]] += math.prod(leaf.shape)
        return dict(counts)

    def _kind(self, leaf: int) -> str:
        (collection, *path), value = self._leaves[leaf]
        if collection != "params":
            return "statistics"
        return "weights" if len(value.shape) > 1 and path[-1] != "bias" else "biases"

    def _name(self, layer: TracedLayer) -> str:
        """Return a unique name: the module's path, with a parameter or operation appended in a module of modules."""
        own = [self._leaves[i][0][1:] for i in layer.leaves]
        direct = [path[-1] for path in own if tuple(path[:-1]) == layer.path]
        what = "_".join(itertools.takewhile(str.isalpha, layer.kind.split(" over ")[0].split()))
        if layer.path not in self._containers:
            what = "" if self._kinds.setdefault(layer.path, layer.kind) == layer.kind else what
        elif len(direct) == 1:
            what = direct[0]
        name = "/".join((*layer.path, what)).removesuffix("/")
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"


def _field(fields: ReceptiveFields, image: Sequence[int]) -> ReceptiveField:
    sides = zip(fields.starts, fields.sizes, image, strict=False)
    covered = all(start <= 0 and start + size >= side for start, size, side in sides)
    return ReceptiveField(size=fields.sizes, stride=fields.strides, whole=covered and not fields.vary)
