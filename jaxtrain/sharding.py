"""Functions that put arrays on devices and constrain their sharding, on meshes with auto or explicit axes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, Sharding


def put(tree: Any, sharding: Sharding) -> Any:
    """Put host arrays, equal in all processes, on devices with `sharding`; each process copies its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def put_process_parts(tree: Any, sharding: Sharding, processes: int) -> Any:
    """Put arrays on devices, where each of `processes` processes passes an equal part of axis 0, in process order."""
    if processes == 1:
        return put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (processes * x.shape[0], *x.shape[1:])), tree
    )


def process_share(sharding: Sharding, size: int) -> tuple[int, int]:
    """Return `(index, count)`: this process's devices hold part `index` of `count` equal parts of a batch of `size`.

    Return `(0, 1)`, the whole batch, if they do not hold one contiguous part, as with interleaved processes.
    """
    local = sharding.addressable_devices_indices_map((size,)).values()
    ranges = (slices[0].indices(size) for slices in local if slices)
    parts = {(start, stop) for start, stop, _ in ranges}
    first, last = min(start for start, _ in parts), max(stop for _, stop in parts)
    length = last - first
    if length != sum(stop - start for start, stop in parts) or size % length or first % length:
        return 0, 1
    return first // length, size // length


def reshape(x: jax.Array, *shape: int) -> jax.Array:
    """Reshape `x`; on an explicit mesh, the result's first axis keeps the sharding of the first axis of `x`."""
    return jax.lax.reshape(x, shape, out_sharding=_first_axis(x))


def broadcast_to_batch(x: jax.Array, value: jax.Array) -> jax.Array:
    """Broadcast `value[1, ...]` to the length of the first axis of `x`, sharded like that axis."""
    return jnp.broadcast_to(value, (x.shape[0], *value.shape[1:]), out_sharding=_first_axis(x))


def _first_axis(x: jax.Array) -> jax.P | None:
    axis = jax.typeof(x).sharding.spec[0] if x.ndim else None
    return None if axis is None else jax.P(axis)


def constrain(tree: Any, sharding: Sharding | Any) -> Any:
    """Constrain the arrays of `tree` to `sharding` inside a compiled function.

    On a mesh with explicit axes this reshards, since the sharding is part of an array's type. On other meshes it is a
    constraint for the compiler.

    Args:
      tree: the arrays.
      sharding: one sharding for all arrays, or a tree of shardings.
    """
    first = jax.tree.leaves(sharding)[0]
    if isinstance(first, NamedSharding) and AxisType.Explicit in first.mesh.axis_types:
        return jax.sharding.reshard(tree, sharding)
    return jax.lax.with_sharding_constraint(tree, sharding)
