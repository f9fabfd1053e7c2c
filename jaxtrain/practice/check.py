"""Everything that can be said of a run before it starts: every parameter, FLOPs a step, memory."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxtrain.optim.rules import ParameterInfo, path_name, values_by_path
from jaxtrain.practice.cost import flops, peak_bytes, tree_bytes
from jaxtrain.reporting.tables import count_bytes
from jaxtrain.training.optimizer import weight_decay
from jaxtrain.training.plan import Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What `jaxtrain check` prints.

    Attributes:
      parameters: every parameter of the model.
      flops: floating-point operations of a training step in products and convolutions, two a multiply-add.
      state_bytes: parameters, variables and optimizer state.
      gradient_bytes: one value a trained parameter.
      activation_bytes: estimate of what else is in use at the worst moment of a step.
      data_bytes: the splits on the device, as uint8; two batches where they are streamed.
      description: lines on data, length and devices.
    """

    parameters: tuple[ParameterInfo, ...]
    flops: int
    state_bytes: int
    gradient_bytes: int
    activation_bytes: int
    data_bytes: int
    description: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report below the table."""
        total = self.state_bytes + self.gradient_bytes + self.activation_bytes + self.data_bytes
        return [
            *self.description,
            f"FLOPs a step: {self.flops:,} (products and convolutions, 2 a multiply-add)",
            f"memory, estimated: {count_bytes(total)} = state {count_bytes(self.state_bytes)} + gradients "
            f"{count_bytes(self.gradient_bytes)} + activations {count_bytes(self.activation_bytes)} + data "
            f"{count_bytes(self.data_bytes)}",
        ]


def examine(plan: Plan) -> Report:
    """Works the report out by abstract evaluation; nothing is compiled and no image read."""
    jaxpr = plan.jaxpr.jaxpr
    pixels = math.prod(plan.splits.image_shape)
    return Report(
        parameters=parameters(plan),
        flops=flops(jaxpr),
        state_bytes=tree_bytes(plan.abstract),
        gradient_bytes=tree_bytes(plan.abstract.params),
        activation_bytes=max(peak_bytes(jaxpr) - tree_bytes(plan.abstract.params), 0),
        data_bytes=_images_on_device(plan) * (pixels + 4),
        description=tuple(_describe(plan)),
    )


def _images_on_device(plan: Plan) -> int:
    """All of them, or two batches where they are streamed: one in use and one on its way."""
    return sum(plan.splits.sizes.values()) if plan.splits.host is None else 2 * plan.clock.batch_size


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
    how = "" if plan.splits.host is None else " decoded ahead of each step"
    return [
        f"data: {plan.splits.dataset.name}, {sizes}; {h}x{w}x{c} images{how}, "
        f"{plan.splits.dataset.num_classes} classes",
        f"length: {plan.config.train_for} = {plan.total_steps:,} steps of {plan.clock.batch_size} "
        f"({plan.clock.epoch(plan.total_steps):.2f} epochs)",
        f"devices: {len(devices)} x {devices[0].device_kind}",
    ]
