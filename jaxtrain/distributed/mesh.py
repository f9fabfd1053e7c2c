"""The mesh of devices that share a step, and the sharding of each array on it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxtrain.config import ParallelConfig
from jaxtrain.distributed.partition import DATA, MODEL, Partition, partition_specs
from jaxtrain.errors import ConfigError
from jaxtrain.sharding import constrain


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh of devices and the shardings of arrays on it.

    The mesh has the axes "data", along which a batch is sharded, and "model", for tensor parallelism.

    Attributes:
      mesh: mesh of all devices of the run.
      config: section `parallel` of the config.
    """

    mesh: Mesh
    config: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that each device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The sharding of an array whose first axis is split along the axis "data"."""
        return NamedSharding(self.mesh, PartitionSpec(DATA))

    @property
    def shares(self) -> int:
        """The number of parts into which a batch is sharded."""
        return int(self.mesh.shape[DATA])

    @property
    def partition(self) -> Partition:
        """The rules by which the arrays of a state are sharded."""
        return Partition(self.config, dict(self.mesh.shape))

    @property
    def explicit(self) -> bool:
        """Whether the axes are explicit, so that shardings are part of the types of arrays."""
        return self.config.axis_types == "explicit"

    def of_state(self, state: Any) -> Any:
        """Return the shardings of a state: one sharding if it is replicated, otherwise a tree of shardings."""
        if not self.partition.divides:
            return self.replicated
        return self._shardings(partition_specs(state, self.partition.spec))

    def of_params(self, params: Any) -> Any:
        """Return the shardings of parameters: one sharding if they are replicated, otherwise a tree of shardings."""
        if not self.partition.divides:
            return self.replicated
        return self._shardings(partition_specs(params, self.partition.spec, "params/"))

    def all_gather_params(self, params: Any) -> Any:
        """Gather parameters over the axis "data" for computation, inside a compiled function."""
        if not self.partition.divides:
            return params
        return constrain(params, self._shardings(partition_specs(params, self.partition.used, "params/")))

    def reduce_scatter_grads(self, grads: Any) -> Any:
        """Shard gradients like the parameters of the state, inside a compiled function."""
        if not self.partition.divides:
            return grads
        return constrain(grads, self._shardings(partition_specs(grads, self.partition.spec, "params/")))

    def _shardings(self, specs: Any) -> Any:
        is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs, is_leaf=is_spec)

    def jit(self, function: Callable[..., Any], **settings: Any) -> Any:
        """Compile with `jax.jit`; on explicit axes, set the mesh during each call."""
        compiled = jax.jit(function, **settings)
        if not self.explicit:
            return compiled

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            with jax.set_mesh(self.mesh):
                return compiled(*args)

        return call

    def eval_shape(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return the abstract result of `function` for abstract arguments, traced with the mesh set."""
        with jax.set_mesh(self.mesh):
            return jax.eval_shape(function, *args)

    def abstract_arrays(self, tree: Any, shardings: Any) -> Any:
        """Return `tree` as `jax.ShapeDtypeStruct`s with `shardings`, one for all arrays or a tree of them."""
        if isinstance(shardings, NamedSharding):
            shardings = jax.tree.map(lambda _: shardings, tree)
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return bool(self.mesh.devices.flat[0].platform == "cpu")

    @property
    def one_cpu(self) -> bool:
        """Whether the mesh is a single CPU device."""
        return self.on_cpu and self.mesh.size == 1

    @property
    def steps_ahead(self) -> int:
        """The largest number of steps by which the host may run ahead of the devices.

        It is 1 for several emulated CPU devices. Their collectives need a thread each, and XLA aborts if queued steps
        occupy all threads.
        """
        return 1 if self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu" else 64


def make_layout(devices: int | None, batch_size: int, parallel: ParallelConfig | None = None) -> Layout:
    """Return the layout of the first `devices` devices.

    Args:
      devices: the number of devices; None for all.
      batch_size: the number of examples in a batch.
      parallel: the section `parallel` of the config; None for the defaults.

    Raises:
      ConfigError: there are too few devices, or the settings or the batch size do not fit the number of devices.
    """
    parallel = parallel or ParallelConfig()
    available = jax.devices()
    count = len(available) if devices is None else devices
    if count > len(available):
        raise ConfigError(
            f"{count} devices are set, but only {len(available)} are available; set a smaller number", "devices"
        )
    if jax.process_count() > 1 and count < len(available):
        raise ConfigError(
            f"{jax.process_count()} processes have {len(available)} devices, and a run must use all of them; leave "
            "devices out",
            "devices",
        )
    _check_combination(parallel, count)
    shares = count // parallel.model
    if batch_size % shares:
        raise ConfigError(
            f"a batch of {batch_size} examples does not divide evenly among {shares} devices; "
            f"{_suggest_batch_size(batch_size, shares)}",
            "data.batch_size",
        )
    if parallel.backend == "jit":
        check_batch_norm_groups(parallel, batch_size, "a batch")
    if jax.process_count() > 1:  # each process gets a contiguous part of every batch
        available = sorted(available, key=lambda device: (device.process_index, device.id))
    axis_type = AxisType.Explicit if parallel.axis_types == "explicit" else AxisType.Auto
    shape, names, kinds = (shares, parallel.model), (DATA, MODEL), (axis_type,) * 2
    if jax.process_count() > 1:
        return Layout(Mesh(np.array(available).reshape(shape), names, axis_types=kinds), parallel)
    return Layout(jax.make_mesh(shape, names, axis_types=kinds, devices=available[:count]), parallel)


def _check_combination(parallel: ParallelConfig, count: int) -> None:
    if count % parallel.model:
        divisors = [n for n in range(1, count + 1) if count % n == 0]
        raise ConfigError(
            f"{count} devices do not divide evenly into a model axis of {parallel.model}; choose one of "
            f"{', '.join(map(str, divisors))}",
            "parallel.model",
        )
    if parallel.axis_types == "explicit" and parallel.model > 1:
        raise ConfigError(
            "with parallel.model > 1 the compiler chooses the shardings of activations, which explicit axes do not "
            "allow; set parallel.axis_types=auto",
            "parallel.axis_types",
        )


def check_batch_norm_groups(parallel: ParallelConfig, examples: int, whose: str) -> None:
    """Raise `ConfigError` if `examples` do not divide evenly into the groups that `parallel.batch_norm` sets.

    Args:
      parallel: the section `parallel` of the config.
      examples: the number of examples that a program processes.
      whose: the name of these examples for the message, such as "a batch".
    """
    size = parallel.batch_norm
    if isinstance(size, int) and examples % size:
        raise ConfigError(
            f"{whose} has {examples} examples, which do not divide evenly into groups of {size}; "
            f"{_suggest_group_size(examples, size)}",
            "parallel.batch_norm",
        )


def _suggest_batch_size(size: int, divisor: int) -> str:
    near = [n for n in (size // divisor * divisor, -(-size // divisor) * divisor) if n > 0]
    return f"use a batch of {' or '.join(map(str, near))}"


def _suggest_group_size(examples: int, size: int) -> str:
    below = max(n for n in range(1, size + 1) if examples % n == 0)
    above = min((n for n in range(size, examples + 1) if examples % n == 0), default=examples)
    return f"use groups of {' or '.join(map(str, sorted({below, above})))}"
