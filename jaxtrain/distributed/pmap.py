"""Training with `jax.pmap`: each device holds the whole state and runs the step on its own part of the batch.

This file contains everything that `parallel.backend="pmap"` does. Arguments and results without a device axis are
ordinary arrays, replicated on all devices. Everything around the step is therefore the same as with `jit`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrain.config import ParallelConfig
from jaxtrain.data.epoch_shuffle import EpochOrder
from jaxtrain.data.loader import Batch, TrainingLoader, batch_indices, take
from jaxtrain.data.memory import Arrays
from jaxtrain.distributed.mesh import Layout, check_batch_norm_groups
from jaxtrain.distributed.partition import DATA
from jaxtrain.distributed.sharded_step import ShardedStep
from jaxtrain.errors import ConfigError
from jaxtrain.step_context import BatchNormScope, narrow_context

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PmapStep(ShardedStep):
    """The operations of a step that each device runs on its part of the batch, inside `jax.pmap` over the axis "data".

    Attributes:
      mesh_layout: the mesh of devices. `layout` is None, since it describes a program for all devices.
    """

    mesh_layout: Layout = dataclasses.field(kw_only=True)

    def local_batch_size(self, batch_size: int) -> int:
        """See `ShardedStep`."""
        return batch_size // self.mesh_layout.shares

    def example_indices(self, examples: int) -> jax.Array:
        """See `ShardedStep`."""
        count = self.mesh_layout.shares
        return _local_part(jnp.arange(examples * count, dtype=jnp.uint32), count)

    def check(self, step: Callable[..., Any], state: Any, batch: Any) -> None:
        """Trace the step inside `jax.pmap` by shapes."""
        count = self.mesh_layout.shares

        def part(x: Any) -> Any:
            return jax.ShapeDtypeStruct((count, x.shape[0] // count, *x.shape[1:]), x.dtype)

        mapped = jax.pmap(step, axis_name=DATA, in_axes=(None, 0), out_axes=None)
        jax.eval_shape(mapped, state, jax.tree.map(part, batch))

    def load(self, load: TrainingLoader, arrays: Arrays, order: EpochOrder, step: jax.Array) -> Batch:
        """Load this device's part of a batch; `arrays` hold the whole split, or only that part of a streamed split."""
        count = self.mesh_layout.shares
        part = load.batch_size // count
        if part == arrays.labels.shape[0]:
            images, labels = arrays
        elif load.batch_size == arrays.labels.shape[0]:
            images, labels = (_local_part(x, count) for x in arrays)
        else:
            indices = _local_part(batch_indices(order, step, load.batch_size), count)
            images, labels = take(arrays, indices, None)
        with narrow_context(indices=self.example_indices(part)):
            images = load.prepare(step, images)
        if load.mix is None:
            return Batch(images, labels)
        # an example may be mixed with any other of the whole batch
        whole = (jax.lax.all_gather(x, DATA, tiled=True) for x in (images, labels))
        return Batch(*(_local_part(x, count) for x in load.mix(step, *whole)))

    def compile(self, dispatch: Callable[..., Any], state: Any, *, streamed: bool, counted: bool = False) -> Any:
        """See `ShardedStep`."""
        del state
        assert not counted  # see `needs_single_steps`
        layout, count = self.mesh_layout, self.mesh_layout.shares
        mapped = jax.pmap(
            lambda state, totals, order, arrays, _: dispatch(state, totals, order, arrays),
            axis_name=DATA,
            in_axes=(None, None, None, 0 if streamed else None, 0),
            out_axes=None,
            axis_size=count,
            devices=layout.mesh.devices.flatten().tolist(),
            donate_argnums=(0, 1),
        )
        dummy = jax.device_put(np.arange(count, dtype=np.uint32), layout.batch)  # pmap needs a mapped argument
        split = jax.jit(
            lambda arrays: jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), arrays),
            out_shardings=layout.batch,
        )

        def call(state: Any, totals: Any, order: EpochOrder, arrays: Arrays) -> Any:
            return mapped(state, totals, order, split(arrays) if streamed else arrays, dummy)

        return call

    def pmean(self, tree: T) -> T:
        """See `ShardedStep`."""
        return jax.lax.pmean(tree, DATA)

    def psum(self, tree: T) -> T:
        """See `ShardedStep`."""
        return jax.lax.psum(tree, DATA)


def pmap_step(layout: Layout, batch_size: int) -> PmapStep:
    """Return the operations by which the devices of `layout` share a step with `jax.pmap`.

    Args:
      layout: the mesh of devices and the section `parallel` of the config.
      batch_size: the number of examples in a batch.

    Raises:
      ConfigError: pmap does not support the settings, or the number of processes.
    """
    parallel = layout.config
    _check_settings(parallel)
    check_batch_norm_groups(parallel, batch_size // layout.shares, "a device's part of the batch")
    if isinstance(parallel.batch_norm, int):
        scope = BatchNormScope(size=parallel.batch_norm)
    else:
        scope = BatchNormScope(axis_name=DATA if parallel.batch_norm == "global" else None)
    return PmapStep(
        batch_norm_scope=scope,
        needs_one_gradient="this optimizer evaluates the objective again inside a step, which a device under pmap "
        "cannot do for the whole batch; set parallel.backend=jit",
        needs_single_steps="pmap runs one step in a call; several need parallel.backend=jit",
        mesh_layout=layout,
    )


def _check_settings(parallel: ParallelConfig) -> None:
    """Raise `ConfigError` for settings that need a mesh, and for several processes."""
    for setting, unsupported in (
        ("fsdp", parallel.fsdp),
        ("model", parallel.model > 1),
        ("rules", bool(parallel.rules)),
        ("axis_types", parallel.axis_types == "explicit"),
    ):
        if unsupported:
            raise ConfigError(
                "pmap keeps the whole state on each device; sharded parameters and meshes need parallel.backend=jit",
                f"parallel.{setting}",
            )
    if jax.process_count() > 1:
        raise ConfigError("pmap supports the devices of one process only; use parallel.backend=jit", "parallel.backend")


def _local_part(x: jax.Array, count: int) -> jax.Array:
    """Return this device's part of the `count` equal parts of `x[N, ...]`."""
    size = x.shape[0] // count
    first = jax.lax.axis_index(DATA).astype(jnp.uint32) * np.uint32(size)
    return jax.lax.dynamic_slice_in_dim(x, first, size)
