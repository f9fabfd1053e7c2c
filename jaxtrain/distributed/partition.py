"""The `PartitionSpec` of each array of a state: by rules on its path, otherwise by its size."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jaxtrain.config import ParallelConfig
from jaxtrain.errors import ConfigError
from jaxtrain.optim.param_rules import compile_regex, path_name

DATA, MODEL = "data", "model"
_RULES = "parallel.rules"
_REPLICATED = "variables/"
"""The path prefix of statistics, which are replicated because they are small and every device uses them."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """The rules that map path and shape of an array to its `PartitionSpec`.

    The optimizer's state has the shapes of the parameters, and its paths end in theirs, so it is sharded like them.

    Attributes:
      config: section `parallel` of the config.
      sizes: number of devices along each axis of the mesh.
    """

    config: ParallelConfig
    sizes: Mapping[str, int]

    @property
    def divides(self) -> bool:
        """Whether any array of a state may be sharded."""
        return self.config.fsdp or self.sizes[MODEL] > 1 or bool(self.config.rules)

    def spec(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """Return the `PartitionSpec` of the array of `shape` at `path`, as the state stores it."""
        for pattern, axes in self.config.rules:
            if compile_regex(pattern, _RULES).search(path):
                return self._spec_of_rule(axes, path, shape)
        return PartitionSpec() if path.startswith(_REPLICATED) else PartitionSpec(*self._axes_by_size(shape))

    def used(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """Return the `PartitionSpec` of the array when a step computes with it: gathered over the axis "data"."""
        return PartitionSpec(*(MODEL if axis == MODEL else None for axis in self.spec(path, shape)))

    def check(self, state: Any) -> None:
        """Raise `ConfigError` if a rule matches no array of `state`, or does not fit an array that it matches."""
        leaves = [(path_name(path), x.shape) for path, x in jax.tree_util.tree_leaves_with_path(state)]
        for path, shape in leaves:
            self.spec(path, shape)
        for pattern, _ in self.config.rules:
            if not any(compile_regex(pattern, _RULES).search(path) for path, _ in leaves):
                paths = ", ".join(path for path, _ in leaves[:4])
                raise ConfigError(f"the rule {pattern!r} matches no array of the state; there are {paths}, ...", _RULES)

    def _spec_of_rule(self, axes: str, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        words = [None if word == "-" else word for word in axes.split()]
        if unknown := [word for word in words if word not in (None, DATA, MODEL)]:
            raise ConfigError(
                f"{unknown[0]!r} is not a mesh axis; for each dimension write 'data', 'model' or '-' (not sharded)",
                _RULES,
            )
        named = [word for word in words if word is not None]
        if len(set(named)) < len(named):
            raise ConfigError(
                f"{axes!r} shards two dimensions of {path} along the same axis; use each axis once", _RULES
            )
        if len(words) > len(shape):
            raise ConfigError(
                f"{axes!r} has {len(words)} words, but {path} has {len(shape)} dimensions; write at most one for each",
                _RULES,
            )
        for size, word in zip(shape, words, strict=False):
            if word is not None and size % self.sizes[word]:
                raise ConfigError(
                    f"{axes!r}: a dimension of {size} of {path} does not divide evenly among {self.sizes[word]} "
                    "devices; write - for it",
                    _RULES,
                )
        return PartitionSpec(*words)

    def _axes_by_size(self, shape: tuple[int, ...]) -> list[str | None]:
        words: list[str | None] = [None] * len(shape)
        devices = self.sizes[MODEL]
        if devices > 1 and len(shape) > 1 and shape[-1] >= self.config.model_min_width and shape[-1] % devices == 0:
            words[-1] = MODEL
        if self.config.fsdp and math.prod(shape) >= self.config.fsdp_min_size:
            free = [i for i, size in enumerate(shape) if words[i] is None and size % self.sizes[DATA] == 0]
            if free:
                words[max(free, key=lambda i: (shape[i], i))] = DATA
        return words


def partition_specs(tree: Any, spec: Callable[[str, tuple[int, ...]], PartitionSpec], prefix: str = "") -> Any:
    """Return the tree of `spec(prefix + path, shape)` for each array of `tree`."""
    return jax.tree_util.tree_map_with_path(lambda path, x: spec(prefix + path_name(path), x.shape), tree)
