"""Where an array lies: put on devices from the host, constrained inside a compiled function, on any kind of mesh."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, Sharding


def put(tree: Any, sharding: Sharding) -> Any:
    """Put arrays of the host, the same in every process, on devices as `sharding` says; each copies its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def put_process_parts(tree: Any, sharding: Sharding, processes: int) -> Any:
    """Put arrays of which each process holds an equal part, in the order of the processes, as `put` does."""
    if processes == 1:
        return put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (processes * x.shape[0], *x.shape[1:])), tree
    )


def process_part(sharding: Sharding, size: int) -> tuple[int, int]:
    """Return which part of a batch of `size` lies on this process's devices: the `index`-th of `count` equal parts.

    `(0, 1)`, the whole batch, where it is no such part: where the devices of several processes lie in turns.
    """
    mine = sharding.addressable_devices_indices_map((size,)).values()
    places = (slices[0].indices(size) for slices in mine if slices)
    parts = {(start, stop) for start, stop, _ in places}
    first, last = min(start for start, _ in parts), max(stop for _, stop in parts)
    held = last - first
    if held != sum(stop - start for start, stop in parts) or size % held or first % held:
        return 0, 1
    return first // held, size // held


def reshape(x: jax.Array, *shape: int) -> jax.Array:
    """Reshape `x`; where its first axis is sharded over an explicit mesh, so is the result's."""
    return jax.lax.reshape(x, shape, out_sharding=_first_axis(x))


def repeat_for(x: jax.Array, value: jax.Array) -> jax.Array:
    """Repeat `value[1, ...]` along the first axis of `x`, sharded as that is."""
    return jnp.broadcast_to(value, (x.shape[0], *value.shape[1:]), out_sharding=_first_axis(x))


def _first_axis(x: jax.Array) -> jax.P | None:
    axis = jax.typeof(x).sharding.spec[0] if x.ndim else None
    return None if axis is None else jax.P(axis)


def constrain(tree: Any, sharding: Sharding | Any) -> Any:
    """Constrain `tree` to `sharding`, one for all arrays or a tree of them, inside a compiled function.

    On a mesh of explicit axes the layout is part of an array's type; on others it is a constraint for the compiler.
    """
    first = jax.tree.leaves(sharding)[0]
    if isinstance(first, NamedSharding) and AxisType.Explicit in first.mesh.axis_types:
        return jax.sharding.reshard(tree, sharding)
    return jax.lax.with_sharding_constraint(tree, sharding)
