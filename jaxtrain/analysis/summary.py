"""A model layer by layer: shapes, parameters, multiply-adds, memory and receptive fields, by shapes alone."""

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
from jaxtrain.analysis.layer_rows import Field, Layer, block_of, without_minor
from jaxtrain.analysis.layers import Path, TracedLayer
from jaxtrain.analysis.receptive_field import ReceptiveFields
from jaxtrain.optim.param_rules import path_name
from jaxtrain.random import MODEL_STREAMS

_BATCH = 2
"""Images that the model is traced for: an axis of one would be lost among others of that length."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What `jaxtrain summary` prints.

    Attributes:
      layers: all of them, the input first, in the order in which they are computed.
      classes: of the modules, by path.
      parameters: trained ones.
      parameter_bytes: that they take.
      statistics: values that are not trained, of batch normalization say.
      unused: parameters that this mode has no use for, by the first name of their path.
    """

    layers: tuple[Layer, ...]
    classes: dict[Path, str]
    parameters: int
    parameter_bytes: int
    statistics: int
    unused: dict[str, int]

    @property
    def multiply_adds(self) -> int:
        """Of all layers, for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """Elements of the outputs of all but minor layers, the input among them."""
        return sum(layer.activations for layer in self.folded())

    def folded(self, depth: int | None = None) -> tuple[Layer, ...]:
        """The layers with minor ones as part of the layer that they are made of.

        Args:
          depth: folds also the layers of a module at this depth into one; None for no such folding.
        """
        main = without_minor(self.layers)
        if depth is None:
            return main

        def block(numbered: tuple[int, Layer]) -> Path | int:
            number, layer = numbered
            return layer.path[:depth] if len(layer.path) >= depth else number

        groups = [list(group) for _, group in itertools.groupby(enumerate(main), block)]
        return tuple(
            block_of(group[0][1].path[:depth], [layer for _, layer in group], self.classes) for group in groups
        )


def summary(
    model: nn.Module, shape: Sequence[int], *, train: bool = False, dtype: jax.typing.DTypeLike = jnp.float32
) -> Summary:
    """Traces `model` and says what it is made of; nothing is computed or compiled.

    Args:
      model: any Linen module that is called with `(images, train=...)`.
      shape: of an image: height, width, channels.
      train: as in training: with dropout and auxiliary heads.
      dtype: of the images.

    Raises:
      ValueError: by the model, where it cannot take such images.
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
    found = find_layers(jax.make_jaxpr(run)(variables, images).jaxpr, len(leaves), modules)
    tally = _Tally([(path_name(path).split("/"), leaf) for path, leaf in leaves], modules)
    params = variables.get("params", {})
    return Summary(
        layers=tuple(tally.layer(f, shape) for f in found),
        classes={path: cls.__name__ for path, cls in modules.items()},
        parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(params)),
        parameter_bytes=tree_bytes(params),
        statistics=tally.count(range(len(leaves)), "statistics"),
        unused=tally.unused(found),
    )


class _Tally:
    """Turns what was found into layers, with names and counts.

    Args:
      leaves: path, the collection first, and shape of each variable.
      modules: paths of those that are called.
    """

    def __init__(self, leaves: Sequence[tuple[list[str], Any]], modules: Iterable[Path]):
        self._leaves = leaves
        self._containers = {path[:i] for path in modules for i in range(len(path))}
        self._kinds: dict[Path, str] = {}
        self._names: collections.Counter[str] = collections.Counter()

    def layer(self, found: TracedLayer, image: Sequence[int]) -> Layer:
        elements = math.prod(found.shape) // _BATCH
        return Layer(
            name=self._name(found),
            kind=found.kind,
            path=found.path,
            shape=found.shape[1:],
            dtype=jnp.dtype(found.dtype).name,
            weights=self.count(found.leaves, "weights"),
            biases=self.count(found.leaves, "biases"),
            statistics=self.count(found.leaves, "statistics"),
            multiply_adds=found.flops // (2 * _BATCH),
            activations=elements,
            activation_bytes=elements * jnp.dtype(found.dtype).itemsize,
            field=_field(found.fields, image),
            minor=found.minor,
            source=-1 if found.made_of is None else found.made_of,
        )

    def count(self, leaves: Iterable[int], kind: str) -> int:
        """Values of one kind among the leaves."""
        return sum(math.prod(self._leaves[i][1].shape) for i in leaves if self._kind(i) == kind)

    def unused(self, found: Sequence[TracedLayer]) -> dict[str, int]:
        used = {i for f in found for i in f.leaves}
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

    def _name(self, found: TracedLayer) -> str:
        """The module's, or in a module of modules that of a parameter of its own or of what is done."""
        own = [self._leaves[i][0][1:] for i in found.leaves]
        direct = [path[-1] for path in own if tuple(path[:-1]) == found.path]
        what = "_".join(itertools.takewhile(str.isalpha, found.kind.split(" over ")[0].split()))
        if found.path not in self._containers:
            what = "" if self._kinds.setdefault(found.path, found.kind) == found.kind else what
        elif len(direct) == 1:
            what = direct[0]
        name = "/".join((*found.path, what)).removesuffix("/")
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"


def _field(fields: ReceptiveFields, image: Sequence[int]) -> Field:
    sides = zip(fields.starts, fields.sizes, image, strict=False)
    covered = all(start <= 0 and start + size >= side for start, size, side in sides)
    return Field(size=fields.sizes, stride=fields.strides, whole=covered and not fields.vary)
