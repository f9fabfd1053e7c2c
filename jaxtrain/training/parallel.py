"""The mesh of devices that share a batch, and the two shardings a data-parallel step needs."""

import dataclasses

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxtrain.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where arrays live: `replicated` on every device of `mesh`, or a `batch` cut along its first axis."""

    mesh: Mesh

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The first axis divided among the devices."""
        return NamedSharding(self.mesh, PartitionSpec("data"))

    @property
    def steps_ahead(self) -> int:
        """How many steps the host may run ahead of the devices, at the most.

        Several emulated CPU devices get one: their collectives need a thread each, and XLA aborts when queued
        steps hold all of them.
        """
        return 1 if self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu" else 64


def make_layout(devices: int | None, batch_size: int) -> Layout:
    """A mesh of the first `devices` devices (all of them for None); `ConfigError` where they do not fit."""
    available = jax.devices()
    count = len(available) if devices is None else devices
    if count > len(available):
        raise ConfigError(f"{count} devices are wanted, and this machine has {len(available)}", "devices")
    if batch_size % count:
        near = [b for b in (batch_size // count * count, -(-batch_size // count) * count) if b > 0]
        raise ConfigError(
            f"{batch_size} examples do not divide among {count} devices; the nearest that do: "
            f"{' or '.join(map(str, near))}",
            "data.batch_size",
        )
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=available[:count])
    return Layout(mesh)
