"""Everything that can be said of a run before it starts: every parameter, FLOPs a step, memory."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxtrain.analysis.cost import flops, tree_bytes
from jaxtrain.analysis.dtypes import dtypes
from jaxtrain.analysis.liveness import temporary_bytes
from jaxtrain.optim.param_rules import ParameterInfo, path_name, values_by_path
from jaxtrain.reporting.tables import count_bytes
from jaxtrain.training.optimizer import weight_decay
from jaxtrain.training.plan import Plan
from jaxtrain.xla_cpu.convolutions import native


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `jaxtrain check` prints.

    Attributes:
      parameters: every parameter of the model.
      flops: floating-point operations of a training step in products and convolutions, two a multiply-add.
      state_bytes: parameters, variables and optimizer state, of one device where they are divided.
      gradient_bytes: one value a trained parameter.
      temporary_bytes: estimate of what a device has in use besides, at the worst moment of a step: its share of the
        batch, activations, gradients, copies.
      data_bytes: the splits on the device, as uint8; two batches where they are streamed.
      description: lines on data, length and devices.
      dtypes: what is in which dtype.
    """

    parameters: tuple[ParameterInfo, ...]
    flops: int
    state_bytes: int
    gradient_bytes: int
    temporary_bytes: int
    data_bytes: int
    description: tuple[str, ...]
    dtypes: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """The report below the table."""
        total = self.state_bytes + self.temporary_bytes + self.data_bytes
        return [
            *self.description,
            f"FLOPs a step: {self.flops:,} (products and convolutions, 2 a multiply-add)",
            f"memory of a device, estimated: {count_bytes(total)} = state {count_bytes(self.state_bytes)} + "
            f"activations and gradients {count_bytes(self.temporary_bytes)} + data {count_bytes(self.data_bytes)}",
        ]


def examine(plan: Plan) -> Report:
    """Works the report out by abstract evaluation; nothing is compiled and no image read."""
    jaxpr = plan.jaxpr.jaxpr
    pixels = math.prod(plan.splits.image_shape)
    return Report(
        parameters=parameters(plan),
        flops=flops(jaxpr),
        state_bytes=plan.layout.bytes_of_one(plan.abstract),
        gradient_bytes=tree_bytes(plan.abstract.params),
        temporary_bytes=_temporary(plan),
        data_bytes=_images_on_device(plan) * (pixels + 4),
        description=tuple(_describe(plan)),
        dtypes=dtypes(plan),
    )


def _temporary(plan: Plan) -> int:
    """Of one device: where there are several, each has the whole gradient, of its share and of all, and its share."""
    layout, given = plan.layout, len(jax.tree.leaves(plan.abstract))
    whole = temporary_bytes(
        plan.jaxpr.jaxpr,
        given,
        made=given,
        in_place=layout.one_cpu or layout.mesh.size > 1,
        native=layout.one_cpu and native.is_wanted(),
    )
    if layout.mesh.size == 1:
        return whole
    gradients = tree_bytes(plan.abstract.params)
    return 2 * gradients + max(whole - gradients, 0) // layout.shares


def _images_on_device(plan: Plan) -> int:
    """All of them, or two batches where they are streamed: one in use and one on its way."""
    return 2 * plan.clock.batch_size if plan.splits.streamed else sum(plan.splits.sizes.values())


def parameters(plan: Plan) -> tuple[ParameterInfo, ...]:
    """Every parameter in path order, with the decay, multiplier and freezing that the rules give it."""
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
        f"devices: {len(devices)} x {devices[0].device_kind}{_shared(plan)}",
    ]


def _shared(plan: Plan) -> str:
    """How devices share the work, where there are several and it is not the usual way."""
    parallel, layout = plan.config.parallel, plan.layout
    ways = [f"backend {parallel.backend}"] * (parallel.backend != "jit")
    ways += [f"a model axis of {parallel.model}"] * (parallel.model > 1)
    if layout.partition.divides:
        own, whole = layout.bytes_of_one(plan.abstract), tree_bytes(plan.abstract)
        ways.append(f"each holds {count_bytes(own)} of a state of {count_bytes(whole)}")
    if parallel.batch_norm != "global":
        of = "each device" if parallel.batch_norm == "device" else f"{parallel.batch_norm} examples"
        ways.append(f"batch normalization over {of}")
    return f" ({', '.join(ways)})" if ways else ""
