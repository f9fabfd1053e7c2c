"""The operations by which the devices of a mesh share a training step that is compiled with `jax.jit`."""

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
    """The operations of a training step that depend on devices; with `jit` the compiler adds the collectives.

    `distributed.pmap.PmapStep` overrides them for `jax.pmap`, where each device processes its own part of the batch.

    Attributes:
      layout: the mesh and its shardings; None for a step on whole batches and whole states, wherever they are.
      batch_norm_scope: the examples over which batch normalization computes its statistics.
      in_place: whether to force in-place parameter updates (XLA:CPU; see xla_cpu/in_place_update.py).
      shards_params: whether any array of the state is sharded.
      needs_one_gradient: the reason why the optimizer must not evaluate the objective again in a step; "" if it may.
      needs_single_steps: the reason why steps must be dispatched one by one; "" if one call can run several steps.
    """

    layout: Layout | None = None
    batch_norm_scope: BatchNormScope = WHOLE_BATCH
    in_place: bool = False
    shards_params: bool = False
    needs_one_gradient: str = ""
    needs_single_steps: str = ""

    def local_batch_size(self, batch_size: int) -> int:
        """Return the number of examples of a batch of `batch_size` that one program processes."""
        return batch_size

    def check(self, step: Callable[..., Any], state: Any, batch: Any) -> None:
        """Trace `step` by shapes on a mesh with explicit axes, where a wrong sharding is a type error.

        Args:
          step: the training step that was made with this object.
          state: the state of the run, or its shapes.
          batch: a whole batch, or its shapes.

        Raises:
          ConfigError: the model cannot be sharded over explicit axes.
        """
        layout = self.layout
        if layout is None or not layout.explicit:
            return
        abstract_state = layout.abstract_arrays(state, layout.of_state(state))
        try:
            layout.eval_shape(
                lambda state, batch: step(state, constrain(batch, layout.batch)),
                abstract_state,
                layout.abstract_arrays(batch, layout.replicated),
            )
        except JaxtrainError:
            raise
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"the model cannot be sharded over explicit axes: {first}; use auto", "parallel.axis_types"
            ) from error

    def load(self, load: TrainingLoader, arrays: Arrays, order: EpochOrder, step: jax.Array) -> Batch:
        """Load the part of the batch of `step` that one program processes: with `jit`, the whole batch."""
        return load(arrays, order, step)

    def compile(self, dispatch: Callable[..., Any], state: Any, *, streamed: bool, counted: bool = False) -> Any:
        """Compile `dispatch(state, totals, order, arrays)`, which donates state and totals.

        Args:
          dispatch: the function that the loop calls.
          state: the state of the run, or its shapes.
          streamed: whether the arrays hold one batch, sharded over the devices, instead of the whole split.
          counted: whether the number of steps is the last argument.
        """
        layout = self.layout
        assert layout is not None
        states, replicated = layout.of_state(state), layout.replicated
        inputs: tuple[Any, ...] = (states, replicated, replicated, layout.batch if streamed else replicated)
        inputs += (replicated,) if counted else ()
        outputs = (states, replicated, replicated)
        return layout.jit(dispatch, donate_argnums=(0, 1), in_shardings=inputs, out_shardings=outputs)

    def example_indices(self, examples: int) -> jax.Array | None:
        """Return uint32[examples], the batch indices of the examples that a step gets; None for 0, 1, 2, ..."""
        del examples
        return None

    def all_gather_params(self, params: Any) -> Any:
        """Gather sharded parameters for the computation of the model."""
        if self.layout is None or not self.shards_params:
            return params
        whole = self.layout.all_gather_params(params)
        return jax.tree.map(lambda x: checkpoint_name(x, _GATHERED), whole) if self._fsdp else whole

    def regather_in_backward(self, function: Callable[..., T]) -> Callable[..., T]:
        """Wrap `function` so that its gradient gathers parameters again instead of keeping them in memory (FSDP)."""
        if not self._fsdp:
            return function
        policy = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
        return jax.checkpoint(function, policy=policy)

    @property
    def _fsdp(self) -> bool:
        return self.layout is not None and self.layout.config.fsdp

    def reduce_scatter_grads(self, grads: Any) -> Any:
        """Shard gradients like the parameters of the state."""
        if self.layout is None or not self.shards_params:
            return grads
        return self.layout.reduce_scatter_grads(grads)

    def finish_grads(self, grads: T) -> T:
        """Finish all gradients before the update if `in_place`, so that parameters can be updated in place."""
        return finish_gradients_first(grads) if self.in_place else grads

    def pmean(self, tree: T) -> T:
        """Average over devices what each computes from its part of the batch; with `jit`, return `tree` unchanged."""
        return tree

    def psum(self, tree: T) -> T:
        """Sum over devices what each computes from its part of the batch; with `jit`, return `tree` unchanged."""
        return tree


ONE_DEVICE = ShardedStep()
"""The operations for a step on one device, or for one whose sharding follows from its arguments."""


def batch_norm_scope(layout: Layout) -> BatchNormScope:
    """Return the scope that `parallel.batch_norm` sets, for a program that processes the whole batch."""
    wanted = layout.config.batch_norm
    if isinstance(wanted, int):
        return BatchNormScope(size=wanted)
    return BatchNormScope(groups=layout.shares if wanted == "device" else 1)


def shard_step(layout: Layout) -> ShardedStep:
    """Return the operations by which the devices of `layout` share a step that is compiled with `jit`."""
    return ShardedStep(
        layout, batch_norm_scope(layout), in_place=layout.one_cpu, shards_params=layout.partition.divides
    )
