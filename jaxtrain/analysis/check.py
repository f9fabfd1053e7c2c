"""What is known of a run before it starts, without a compile: every parameter, FLOPs of a step, memory, dtypes."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrain.analysis.cost import flops
from jaxtrain.analysis.dtypes import dtypes
from jaxtrain.analysis.memory import ArrayBytes, data_bytes, state_bytes, sum_bytes
from jaxtrain.optim.param_rules import ParameterInfo, path_name, values_by_path
from jaxtrain.training.optimizer import weight_decay
from jaxtrain.training.plan import Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `jaxtrain check` prints.

    Attributes:
      parameters: every parameter of the model.
      flops: floating-point operations of a training step in matrix multiplications and convolutions, two a
        multiply-add.
      state: bytes of the state, by kind.
      data: bytes of the data on the devices.
      description: lines on data, length and devices.
      dtypes: what is in which dtype.
    """

    parameters: tuple[ParameterInfo, ...]
    flops: int
    state: tuple[ArrayBytes, ...]
    data: tuple[ArrayBytes, ...]
    description: tuple[str, ...]
    dtypes: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the report below the tables."""
        return [
            *self.description,
            f"FLOPs of a step: {self.flops:,} (matrix multiplications and convolutions, 2 a multiply-add)",
        ]

    def memory_rows(self) -> list[tuple[str, int, int]]:
        """Return rows `(what, bytes of one copy, bytes on each device)`, with the sums of state and data."""
        state, data = sum_bytes("state", self.state), sum_bytes("data", self.data)
        return [(item.name, item.total, item.per_device) for item in (*self.state, state, *self.data, data)]


def examine(plan: Plan) -> Report:
    """Work the report out by abstract evaluation; nothing is compiled and no image read."""
    return Report(
        parameters=parameters(plan),
        flops=flops(plan.jaxpr.jaxpr),
        state=state_bytes(plan),
        data=data_bytes(plan),
        description=tuple(_describe(plan)),
        dtypes=dtypes(plan),
    )


def parameters(plan: Plan) -> tuple[ParameterInfo, ...]:
    """Return every parameter in path order, with the decay, multiplier and freezing that the rules give it."""
    params, config = plan.abstract.params, plan.config
    rules = {
        "decay": weight_decay(config.optimizer),
        "learning_rate": plan.multipliers,
        "frozen": config.parameters.frozen,
    }
    values = {k: jax.tree.leaves(values_by_path(v, params, k)) for k, v in rules.items()}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return tuple(
        ParameterInfo(
            path=path_name(path),
            shape=leaf.shape,
            dtype=jnp.dtype(leaf.dtype).name,
            count=leaf.size,
            decay=values["decay"][i],
            learning_rate=values["learning_rate"][i],
            frozen=bool(values["frozen"][i]),
        )
        for i, (path, leaf) in enumerate(leaves)
    )


def _describe(plan: Plan) -> list[str]:
    h, w, c = plan.splits.image_shape
    sizes = ", ".join(f"{n:,} {split}" for split, n in plan.splits.sizes.items())
    devices = plan.layout.mesh.devices.flat
    how = "read" if plan.splits.host is None else "decoded"
    how = f" {how} ahead of each step" if plan.splits.streamed else ""
    return [
        f"data: {plan.splits.dataset.name}, {sizes}; {h}x{w}x{c} images{how}, "
        f"{plan.splits.dataset.num_classes} classes",
        f"length: {plan.config.train_for} = {plan.total_steps:,} steps of {plan.clock.batch_size} "
        f"({plan.clock.epoch(plan.total_steps):.2f} epochs)",
        f"devices: {len(devices)} x {devices[0].device_kind}{_sharing(plan)}",
    ]


def _sharing(plan: Plan) -> str:
    """Return how devices share the work, where there are several and it is not the usual way."""
    parallel = plan.config.parallel
    ways = [f"backend {parallel.backend}"] * (parallel.backend != "jit")
    ways += [f"a model axis of {parallel.model}"] * (parallel.model > 1)
    ways += ["a sharded state"] * plan.layout.partition.divides
    if parallel.batch_norm != "global":
        of = "each device" if parallel.batch_norm == "device" else f"{parallel.batch_norm} examples"
        ways.append(f"batch normalization over {of}")
    return f" ({', '.join(ways)})" if ways else ""
