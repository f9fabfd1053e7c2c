"""What a training step does besides, where several devices share it: gathers, divides and joins."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxtrain.distributed.mesh import Layout
from jaxtrain.distributed.partition import DATA
from jaxtrain.nn.statistics_over import Over
from jaxtrain.xla_cpu.in_place_update import made_together

T = TypeVar("T")
_GATHERED = "gathered"


@dataclasses.dataclass(frozen=True)
class Sharing:
    """How a step is shared.

    Attributes:
      layout: where the arrays lie, for a program of all devices; None where it need not be said.
      axis_name: of `pmap`, whose devices run the step on a share of the batch each.
      statistics: over what batch normalization takes its statistics.
      in_place: whether care is taken that parameters are written over where they lie.
    """

    layout: Layout | None = None
    axis_name: str | None = None
    statistics: Over = dataclasses.field(default_factory=Over)
    in_place: bool = False

    def gathered(self, params: Any) -> Any:
        """Parameters as the model computes with them."""
        if self.layout is None:
            return params
        whole = self.layout.gathered(params)
        return jax.tree.map(lambda x: checkpoint_name(x, _GATHERED), whole) if self._fsdp else whole

    def not_kept(self, function: Callable[..., T]) -> Callable[..., T]:
        """`function`, whose gradient gathers the parameters once more instead of keeping them meanwhile."""
        if not self._fsdp:
            return function
        policy = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        return jax.checkpoint(function, policy=policy)

    @property
    def _fsdp(self) -> bool:
        return self.layout is not None and self.layout.config.fsdp

    def divided(self, grads: Any) -> Any:
        """Gradients as the parameters lie."""
        return grads if self.layout is None else self.layout.divided(grads)

    def complete(self, grads: T) -> T:
        """Gradients to update the parameters with, these being written over where they lie."""
        return made_together(grads) if self.in_place else grads

    def joined(self, tree: T) -> T:
        """What shares of equal size give, averaged over them."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def added(self, tree: T) -> T:
        """What shares give, added up."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` of the whole batch, which a device that sees its share alone cannot give."""
        return function if self.axis_name is None else _refuse


def _refuse(*_: Any) -> Any:
    raise ValueError(
        "this optimizer asks for values of the objective besides its gradient, which a device of pmap cannot give for "
        "the whole batch; set parallel.backend=jit"
    )


ALONE = Sharing()
"""A step that is not shared, or whose sharing is all said by the layout of its arguments."""


def sharing_of(layout: Layout) -> Sharing:
    """How `layout` wants a step to be shared."""
    if layout.config.backend == "pmap":
        return Sharing(axis_name=DATA, statistics=layout.statistics)
    return Sharing(layout=layout, statistics=layout.statistics, in_place=layout.one_cpu)
