"""Which axes of the mesh the arrays of a state are divided along: by rules on their paths, else by size."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import PartitionSpec

from jaxtrain.config import ParallelConfig
from jaxtrain.errors import ConfigError
from jaxtrain.optim.param_rules import compiled, path_name

DATA, MODEL = "data", "model"
_RULES = "parallel.rules"
_WHOLE = "variables/"
"""Statistics, which are small and used by every device."""


@dataclasses.dataclass(frozen=True)
class Partition:
    """Gives the `PartitionSpec` of an array by its path and shape.

    State of an optimizer has the shapes of parameters and ends in their paths, so it lies as they do.

    Attributes:
      config: what is wanted.
      sizes: devices along each axis of the mesh.
    """

    config: ParallelConfig
    sizes: Mapping[str, int]

    @property
    def divides(self) -> bool:
        """Whether any array of a state may be divided."""
        return self.config.fsdp or self.sizes[MODEL] > 1 or bool(self.config.rules)

    def spec(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """Of the array of `shape` at `path`."""
        for pattern, axes in self.config.rules:
            if compiled(pattern, _RULES).search(path):
                return self._of_rule(axes, path, shape)
        return PartitionSpec() if path.startswith(_WHOLE) else PartitionSpec(*self._by_size(shape))

    def used(self, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        """The same array where a step computes with it: gathered over the devices that share the batch."""
        return PartitionSpec(*(MODEL if axis == MODEL else None for axis in self.spec(path, shape)))

    def check(self, state: Any) -> None:
        """Raises `ConfigError` for a rule that fits no path in `state`, or not the array that it decides."""
        leaves = [(path_name(path), x.shape) for path, x in jax.tree_util.tree_leaves_with_path(state)]
        for path, shape in leaves:
            self.spec(path, shape)
        for pattern, _ in self.config.rules:
            if not any(compiled(pattern, _RULES).search(path) for path, _ in leaves):
                shown = ", ".join(path for path, _ in leaves[:4])
                raise ConfigError(f"the rule {pattern!r} decides no array of the state; they are {shown}, ...", _RULES)

    def _of_rule(self, axes: str, path: str, shape: tuple[int, ...]) -> PartitionSpec:
        words = [None if word == "-" else word for word in axes.split()]
        if unknown := [word for word in words if word not in (None, DATA, MODEL)]:
            raise ConfigError(f"{unknown[0]!r} is no axis; write data, model or - for each dimension", _RULES)
        named = [word for word in words if word is not None]
        if len(set(named)) < len(named):
            raise ConfigError(f"{axes!r} divides two dimensions of {path} along one axis", _RULES)
        if len(words) > len(shape):
            raise ConfigError(f"{axes!r} has {len(words)} words, and {path} has {len(shape)} dimensions", _RULES)
        for size, word in zip(shape, words, strict=False):
            if word is not None and size % self.sizes[word]:
                raise ConfigError(
                    f"{axes!r}: a dimension of {size} of {path} does not divide among {self.sizes[word]} devices",
                    _RULES,
                )
        return PartitionSpec(*words)

    def _by_size(self, shape: tuple[int, ...]) -> list[str | None]:
        words: list[str | None] = [None] * len(shape)
        devices = self.sizes[MODEL]
        if devices > 1 and len(shape) > 1 and shape[-1] >= self.config.model_min_width and shape[-1] % devices == 0:
            words[-1] = MODEL
        if self.config.fsdp and math.prod(shape) >= self.config.fsdp_min_size:
            free = [i for i, size in enumerate(shape) if words[i] is None and size % self.sizes[DATA] == 0]
            if free:
                words[max(free, key=lambda i: (shape[i], i))] = DATA
        return words


def specs_of(tree: Any, spec: Callable[[str, tuple[int, ...]], PartitionSpec], prefix: str = "") -> Any:
    """What `spec` gives for each array of `tree`, whose paths begin with `prefix`."""
    return jax.tree_util.tree_map_with_path(lambda path, x: spec(prefix + path_name(path), x.shape), tree)
