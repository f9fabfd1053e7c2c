"""The mesh of devices that share the work of a step, and where each array lies."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxtrain.config import ParallelConfig
from jaxtrain.distributed.partition import DATA, MODEL, Partition, specs_of
from jaxtrain.errors import ConfigError
from jaxtrain.sharding import constrain


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where arrays live on `mesh`, whose axes are "data", along which a batch is cut, and "model".

    Attributes:
      mesh: of all devices that take part.
      config: how they share the work.
    """

    mesh: Mesh
    config: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The first axis divided among the devices that share a batch."""
        return NamedSharding(self.mesh, PartitionSpec(DATA))

    @property
    def shares(self) -> int:
        """Into how many parts a batch is cut."""
        return int(self.mesh.shape[DATA])

    @property
    def partition(self) -> Partition:
        """How the arrays of a state are divided."""
        return Partition(self.config, dict(self.mesh.shape))

    @property
    def explicit(self) -> bool:
        """Whether layouts are part of the types of arrays."""
        return self.config.axis_types == "explicit"

    def of_state(self, state: Any) -> Any:
        """The shardings of a state: one for all where it is on every device, else a tree of them."""
        if not self.partition.divides:
            return self.replicated
        return self._shardings(specs_of(state, self.partition.spec))

    def of_params(self, params: Any) -> Any:
        """The same for the parameters alone."""
        if not self.partition.divides:
            return self.replicated
        return self._shardings(specs_of(params, self.partition.spec, "params/"))

    def all_gather_params(self, params: Any) -> Any:
        """Gather parameters as a step computes with them, inside a compiled function."""
        if not self.partition.divides:
            return params
        return constrain(params, self._shardings(specs_of(params, self.partition.used, "params/")))

    def reduce_scatter_grads(self, grads: Any) -> Any:
        """Shard gradients as the parameters of the state are, inside a compiled function."""
        if not self.partition.divides:
            return grads
        return constrain(grads, self._shardings(specs_of(grads, self.partition.spec, "params/")))

    def _shardings(self, specs: Any) -> Any:
        is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs, is_leaf=is_spec)

    def jit(self, function: Callable[..., Any], **settings: Any) -> Any:
        """`jax.jit`; where axes are explicit, calls are made within the mesh."""
        compiled = jax.jit(function, **settings)
        if not self.explicit:
            return compiled

        @functools.wraps(function)
        def within(*args: Any) -> Any:
            with jax.set_mesh(self.mesh):
                return compiled(*args)

        return within

    def traced(self, function: Callable[..., Any], *args: Any) -> Any:
        """The shapes that `function` gives where it is called within the mesh, with arguments of these shapes."""
        with jax.set_mesh(self.mesh):
            return jax.eval_shape(function, *args)

    def placed_shapes(self, tree: Any, shardings: Any) -> Any:
        """The shapes of `tree` as arrays that lie so: one sharding for all of it, or a tree of them."""
        if isinstance(shardings, NamedSharding):
            shardings = jax.tree.map(lambda _: shardings, tree)
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return bool(self.mesh.devices.flat[0].platform == "cpu")

    @property
    def one_cpu(self) -> bool:
        """Whether all is done by one CPU device."""
        return self.on_cpu and self.mesh.size == 1

    @property
    def steps_ahead(self) -> int:
        """How many steps the host may run ahead of the devices, at the most.

        Several emulated CPU devices get one: their collectives need a thread each, and XLA aborts when queued
        steps hold all of them.
        """
        return 1 if self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu" else 64


def make_layout(devices: int | None, batch_size: int, parallel: ParallelConfig | None = None) -> Layout:
    """A mesh of the first `devices` devices (all of them for None); `ConfigError` where they do not fit."""
    parallel = parallel or ParallelConfig()
    available = jax.devices()
    count = len(available) if devices is None else devices
    if count > len(available):
        raise ConfigError(f"{count} devices are wanted, and this machine has {len(available)}", "devices")
    if jax.process_count() > 1 and count < len(available):
        raise ConfigError(
            f"{jax.process_count()} processes have {len(available)} devices, and each process must take part; leave "
            "devices out",
            "devices",
        )
    _check_combination(parallel, count)
    shares = count // parallel.model
    if batch_size % shares:
        raise ConfigError(
            f"{batch_size} examples do not divide among {shares} devices; {_nearest(batch_size, shares)}",
            "data.batch_size",
        )
    if parallel.backend == "jit":
        check_batch_norm_groups(parallel, batch_size, "a batch")
    if jax.process_count() > 1:  # each process has a stretch of every batch
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
            f"{count} devices do not divide into a model axis of {parallel.model}; choose one of "
            f"{', '.join(map(str, divisors))}",
            "parallel.model",
        )
    if parallel.axis_types == "explicit" and parallel.model > 1:
        raise ConfigError(
            "how the outputs of a layer go on along the model axis is worked out by the compiler, which needs "
            "parallel.axis_types=auto",
            "parallel.axis_types",
        )


def check_batch_norm_groups(parallel: ParallelConfig, examples: int, whose: str) -> None:
    """Raise `ConfigError` where `examples` do not divide into the groups that `parallel.batch_norm` asks for.

    Args:
      parallel: the section of the config.
      examples: the number of examples that a program sees.
      whose: what these examples are, for the message: "a batch".
    """
    size = parallel.batch_norm
    if isinstance(size, int) and examples % size:
        raise ConfigError(
            f"{whose} has {examples} examples, which do not divide into groups of {size}; {_divisors(examples, size)}",
            "parallel.batch_norm",
        )


def _nearest(number: int, divisor: int) -> str:
    near = [n for n in (number // divisor * divisor, -(-number // divisor) * divisor) if n > 0]
    return f"the nearest that do: {' or '.join(map(str, near))}"


def _divisors(number: int, near: int) -> str:
    below = max(n for n in range(1, near + 1) if number % n == 0)
    above = min((n for n in range(near, number + 1) if number % n == 0), default=number)
    return f"the nearest that do: {' or '.join(map(str, sorted({below, above})))}"
