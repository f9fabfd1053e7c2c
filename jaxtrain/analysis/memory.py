"""Bytes of a run's state and data, in total and on each device, computed from shapes alone."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrain.analysis.cost import tree_bytes
from jaxtrain.data.device_stream import BATCHES_ON_DEVICE_AHEAD
from jaxtrain.data.epoch_shuffle import EpochOrder
from jaxtrain.data.memory import Arrays
from jaxtrain.optim.averages import averages
from jaxtrain.training.plan import Plan
from jaxtrain.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ArrayBytes:
    """Bytes of some arrays of a run.

    Attributes:
      name: description of the arrays.
      total: bytes of one copy of them.
      per_device: bytes on each device.
    """

    name: str
    total: int
    per_device: int


def state_bytes(plan: Plan) -> tuple[ArrayBytes, ...]:
    """Return the bytes of the state, by kind: parameters, the model's variables, optimizer state, averages."""
    state = abstract_state(plan)
    averaged = jax.tree.leaves(averages(state.opt_state))
    ids = {id(leaf) for leaf in averaged}
    others = [leaf for leaf in jax.tree.leaves((state.step, state.opt_state)) if id(leaf) not in ids]
    return _without_empty(
        _bytes("parameters", state.params),
        _bytes("variables (batch statistics)", state.variables),
        _bytes("optimizer state, counters", others),
        _bytes("averages of the parameters", averaged),
    )


def data_bytes(plan: Plan) -> tuple[ArrayBytes, ...]:
    """Return the bytes of the data on the devices: all splits and the order of the examples, or streamed batches."""
    if plan.splits.streamed:
        count = 1 + BATCHES_ON_DEVICE_AHEAD
        name = f"{count} streamed batches: one in use, {BATCHES_ON_DEVICE_AHEAD} ahead"
        return (_bytes(name, [abstract_examples(plan)] * count),)
    splits = (_bytes(f"{name} split", abstract_split(plan, name)) for name in plan.splits.sizes)
    return _without_empty(*splits, _bytes("order of the examples", abstract_order(plan)))


def abstract_state(plan: Plan) -> TrainState:
    """Return the shapes and shardings of the state."""
    state: TrainState = plan.layout.abstract_arrays(plan.abstract, plan.layout.of_state(plan.abstract))
    return state


def abstract_examples(plan: Plan) -> Arrays:
    """Return the shapes and shardings of the arrays that a step reads: the training split, or a streamed batch."""
    if not plan.splits.streamed:
        return abstract_split(plan, "train")
    return _abstract_arrays(plan, plan.clock.batch_size, plan.layout.batch)


def abstract_split(plan: Plan, name: str) -> Arrays:
    """Return the shapes and shardings of a split that lies on the devices."""
    return _abstract_arrays(plan, plan.splits.sizes[name], plan.layout.replicated)


def abstract_order(plan: Plan) -> EpochOrder:
    """Return the shapes of the order of the examples, which full-batch and streamed steps do not need."""
    needs_order = not plan.splits.streamed and plan.clock.batch_size < plan.clock.examples
    indices: Any = jax.ShapeDtypeStruct((2 * plan.clock.examples if needs_order else 2,), jnp.int32)
    scalar: Any = jax.ShapeDtypeStruct((), jnp.int32)
    order: EpochOrder = plan.layout.abstract_arrays(EpochOrder(indices, scalar, scalar), plan.layout.replicated)
    return order


def _abstract_arrays(plan: Plan, count: int, sharding: Any) -> Arrays:
    images: Any = jax.ShapeDtypeStruct((count, *plan.splits.image_shape), jnp.uint8)
    labels: Any = jax.ShapeDtypeStruct((count,), jnp.int32)
    arrays: Arrays = plan.layout.abstract_arrays(Arrays(images, labels), sharding)
    return arrays


def _bytes(name: str, tree: Any) -> ArrayBytes:
    """Return the bytes of a tree of shapes with shardings."""
    shards = ((x.sharding.shard_shape(x.shape), x.dtype) for x in jax.tree.leaves(tree))
    return ArrayBytes(name, tree_bytes(tree), sum(math.prod(shape) * dtype.itemsize for shape, dtype in shards))


def _without_empty(*items: ArrayBytes) -> tuple[ArrayBytes, ...]:
    return tuple(item for item in items if item.total)


def sum_bytes(name: str, items: Iterable[ArrayBytes]) -> ArrayBytes:
    """Return the sum of `items` under the name `name`."""
    items = tuple(items)
    return ArrayBytes(name, sum(i.total for i in items), sum(i.per_device for i in items))
