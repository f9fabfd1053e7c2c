"""How the devices of a mesh share a training step that `jax.jit` compiles for all of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxtrain.data.epoch_shuffle import EpochOrder
from jaxtrain.data.loader import Batch, TrainingLoader
from jaxtrain.data.memory import Arrays
from jaxtrain.distributed.mesh import Layout
from jaxtrain.errors import ConfigError, JaxtrainError
from jaxtrain.sharding import constrain
from jaxtrain.step_context import WHOLE_BATCH, BatchNormScope
from jaxtrain.xla_cpu.in_place_update import finish_gradients_first

T = TypeVar("T")
_GATHERED = "gathered"


@dataclasses.dataclass(frozen=True)
class ShardedStep:
    """What a training step does because several devices share it. With `jit` the compiler adds the collectives.

    `distributed.pmap.PmapStep` overrides it for `jax.pmap`, whose devices see a part of the batch each.

    Attributes:
      layout: the devices; None for a step that takes whole batches and whole states, wherever they are.
      batch_norm_scope: the examples over which batch normalization takes its statistics.
      in_place: whether to force in-place parameter updates (XLA:CPU; see xla_cpu/in_place_update.py).
      shards_params: whether any array of the state is sharded.
      needs_one_gradient: why the optimizer may not evaluate the objective of the whole batch again; "" where it may.
      needs_single_steps: why steps must be dispatched one by one; "" where several can be compiled into one call.
    """

    layout: Layout | None = None
    batch_norm_scope: BatchNormScope = WHOLE_BATCH
    in_place: bool = False
    shards_params: bool = False
    needs_one_gradient: str = ""
    needs_single_steps: str = ""

    def local_batch_size(self, batch_size: int) -> int:
        """Return the number of examples that one program sees of a batch of `batch_size`."""
        return batch_size

    def check(self, step: Callable[..., Any], state: Any, batch: Any) -> None:
        """Trace `step` by shapes on an explicit mesh, where a layout that does not fit is an error of types.

        Args:
          step: the training step, shared by this object.
          state: the state of the run, or its shapes.
          batch: a whole batch, or its shapes.

        Raises:
          ConfigError: the model cannot be laid out over explicit axes.
        """
        layout = self.layout
        if layout is None or not layout.explicit:
            return
        laid_out = layout.placed_shapes(state, layout.of_state(state))
        try:
            layout.traced(
                lambda state, batch: step(state, constrain(batch, layout.batch)),
                laid_out,
                layout.placed_shapes(batch, layout.replicated),
            )
        except JaxtrainError:
            raise
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"the model cannot be laid out over explicit axes: {first}; use auto", "parallel.axis_types"
            ) from error

    def load(self, load: TrainingLoader, arrays: Arrays, order: EpochOrder, step: jax.Array) -> Batch:
        """Load what a program sees of the batch of `step`."""
        return load(arrays, order, step)

    def compile(self, dispatch: Callable[..., Any], state: Any, *, streamed: bool, counted: bool = False) -> Any:
        """Compile `dispatch(state, totals, order, arrays)`, which donates state and totals.

        Args:
          dispatch: what the loop calls.
          state: the state of the run, or its shapes.
          streamed: whether the arrays are those of one batch, to be cut among the devices.
          counted: whether the number of steps is a last argument.
        """
        layout = self.layout
        assert layout is not None
        states, everywhere = layout.of_state(state), layout.replicated
        given: tuple[Any, ...] = (states, everywhere, everywhere, layout.batch if streamed else everywhere)
        given += (everywhere,) if counted else ()
        made = (states, everywhere, everywhere)
        return layout.jit(dispatch, donate_argnums=(0, 1), in_shardings=given, out_shardings=made)

    def example_indices(self, examples: int) -> jax.Array | None:
        """Return uint32[examples], the batch indices of the examples that a step is given; None for 0, 1, 2, ..."""
        del examples
        return None

    def all_gather_params(self, params: Any) -> Any:
        """Gather sharded parameters as the model computes with them."""
        if self.layout is None or not self.shards_params:
            return params
        whole = self.layout.all_gather_params(params)
        return jax.tree.map(lambda x: checkpoint_name(x, _GATHERED), whole) if self._fsdp else whole

    def regather_in_backward(self, function: Callable[..., T]) -> Callable[..., T]:
        """Have the gradient of `function` gather the parameters again instead of keeping them meanwhile."""
        if not self._fsdp:
            return function
        policy = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        return jax.checkpoint(function, policy=policy)

    @property
    def _fsdp(self) -> bool:
        return self.layout is not None and self.layout.config.fsdp

    def reduce_scatter_grads(self, grads: Any) -> Any:
        """Shard gradients as the parameters of the state are."""
        if self.layout is None or not self.shards_params:
            return grads
        return self.layout.reduce_scatter_grads(grads)

    def finish_grads(self, grads: T) -> T:
        """Return gradients ready for the update, so that parameters are overwritten in place where that is wanted."""
        return finish_gradients_first(grads) if self.in_place else grads

    def pmean(self, tree: T) -> T:
        """Average over the devices what each computes from its own part of the batch: nothing under `jit`."""
        return tree

    def psum(self, tree: T) -> T:
        """Add over the devices what each computes from its own part of the batch: nothing under `jit`."""
        return tree


ONE_DEVICE = ShardedStep()
"""A step on one device, or one whose sharding is all said by the layout of its arguments."""


def batch_norm_scope(layout: Layout) -> BatchNormScope:
    """Return the scope that `parallel.batch_norm` asks for in a program that sees the whole batch."""
    wanted = layout.config.batch_norm
    if isinstance(wanted, int):
        return BatchNormScope(size=wanted)
    return BatchNormScope(groups=layout.shares if wanted == "device" else 1)


def shard_step(layout: Layout) -> ShardedStep:
    """Return how the devices of `layout` share a step that is compiled with `jit`."""
    return ShardedStep(
        layout, batch_norm_scope(layout), in_place=layout.one_cpu, shards_params=layout.partition.divides
    )
