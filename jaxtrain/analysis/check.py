"""The report of `jaxtrain check` on a run, made without compiling: parameters, FLOPs of a step, memory, dtypes."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxtrain.analysis.cost import flops
from jaxtrain.analysis.dtypes import dtypes
from jaxtrain.analysis.memory import ArrayBytes, data_bytes, state_bytes, sum_bytes
from jaxtrain.optim.param_rules import ParameterInfo, path_name, values_by_path
from jaxtrain.training.optimizer import find_weight_decay
from jaxtrain.training.plan import Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The report that `jaxtrain check` prints.

    Attributes:
      parameters: parameters of the model.
      flops: floating-point operations of a training step in matrix multiplications and convolutions, two per
        multiply-add.
      state: bytes of the state, by kind.
      data: bytes of the data on the devices.
      description: lines on data, length and devices.
      dtypes: rows `(what, its dtypes)`.
    """

    parameters: tuple[ParameterInfo, ...]
    flops: int
    state: tuple[ArrayBytes, ...]
    data: tuple[ArrayBytes, ...]
    description: tuple[str, ...]
    dtypes: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the lines that follow the tables."""
        return [
            *self.description,
            f"FLOPs of a step: {self.flops:,} (matrix multiplications and convolutions, 2 per multiply-add)",
        ]

    def memory_rows(self) -> list[tuple[str, int, int]]:
        """Return rows `(what, bytes of one copy, bytes on each device)`, with the sums of state and data."""
        state, data = sum_bytes("state", self.state), sum_bytes("data", self.data)
        return [(item.name, item.total, item.per_device) for item in (*self.state, state, *self.data, data)]


def make_report(plan: Plan) -> CheckReport:
    """Make the report by abstract evaluation: nothing is compiled, and no image is read."""
    return CheckReport(
        parameters=parameters(plan),
        flops=flops(plan.jaxpr.jaxpr),
        state=state_bytes(plan),
        data=data_bytes(plan),
        description=tuple(_describe(plan)),
        dtypes=dtypes(plan),
    )


def parameters(plan: Plan) -> tuple[ParameterInfo, ...]:
    """Return all parameters in path order, each with its weight decay, learning-rate multiplier and frozen flag."""
    params, config = plan.abstract.params, plan.config
    rules = {
        "decay": find_weight_decay(config.optimizer),
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
    action = "read" if plan.splits.decode is None else "decoded"
    streaming = f" {action} ahead of each step" if plan.splits.streamed else ""
    return [
        f"data: {plan.splits.dataset.name}, {sizes}; {h}x{w}x{c} images{streaming}, "
        f"{plan.splits.dataset.num_classes} classes",
        f"length: {plan.config.train_for} = {plan.total_steps:,} steps of {plan.clock.batch_size} "
        f"({plan.clock.epoch(plan.total_steps):.2f} epochs)",
        f"devices: {len(devices)} x {devices[0].device_kind}{_describe_parallelism(plan)}",
    ]


def _describe_parallelism(plan: Plan) -> str:
    """Return a note on how the devices share the work, or "" for the default way."""
    parallel = plan.config.parallel
    settings = [f"backend {parallel.backend}"] * (parallel.backend != "jit")
    settings += [f"a model axis of {parallel.model}"] * (parallel.model > 1)
    settings += ["a sharded state"] * plan.layout.partition.divides
    if parallel.batch_norm != "global":
        scope = "each device" if parallel.batch_norm == "device" else f"{parallel.batch_norm} examples"
        settings.append(f"batch normalization over {scope}")
    return f" ({', '.join(settings)})" if settings else ""
