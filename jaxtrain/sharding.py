"""Where an array lies, said inside a compiled function, whatever the axes of the mesh are like."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, Sharding


def placed(tree: Any, sharding: Sharding) -> Any:
    """Arrays of the host, the same in every process, on the devices as `sharding` says; each copies its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def placed_shares(tree: Any, sharding: Sharding, processes: int) -> Any:
    """Arrays of which each process holds an equal stretch, the one after that of the process before it, as `placed`."""
    if processes == 1:
        return placed(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (processes * x.shape[0], *x.shape[1:])), tree
    )


def reshaped(x: jax.Array, *shape: int) -> jax.Array:
    """`x` in another shape; where its first axis is divided over an explicit mesh, so is the result's."""
    return jax.lax.reshape(x, shape, out_sharding=_of_first_axis(x))


def repeated_for(x: jax.Array, value: jax.Array) -> jax.Array:
    """`value[1, ...]` for each along the first axis of `x`, divided as that is."""
    return jnp.broadcast_to(value, (x.shape[0], *value.shape[1:]), out_sharding=_of_first_axis(x))


def _of_first_axis(x: jax.Array) -> jax.P | None:
    axis = jax.typeof(x).sharding.spec[0] if x.ndim else None
    return None if axis is None else jax.P(axis)


def laid_out(tree: Any, sharding: Sharding | Any) -> Any:
    """`tree` as `sharding`, one for all of it or a tree of them, says.

    On a mesh of explicit axes that is part of an array's type, and else a wish that the compiler grants.
    """
    first = jax.tree.leaves(sharding)[0]
    if isinstance(first, NamedSharding) and AxisType.Explicit in first.mesh.axis_types:
        return jax.sharding.reshard(tree, sharding)
    return jax.lax.with_sharding_constraint(tree, sharding)
