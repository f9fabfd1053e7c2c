"""The objective of a batch as functions, which a training step passes to an optimizer besides the gradient."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class BatchObjective:
    """The objective of one step's batch, as functions of the parameters; None for functions that are not available.

    A training step passes it to the optimizer as the extra argument `objective`, beside optax's `value`, `grad` and
    `value_fn`. It costs nothing if the optimizer does not use it. In your own loop, pass it yourself.

    Attributes:
      value: `params -> f[]`, the mean loss of the batch plus the penalties.
      outputs: `params -> logits f[N, K]`, or the model's `Outputs` if it has auxiliary heads.
      output_loss: `logits -> f[]`, the mean loss without penalties.
      worker_values: `stacked params [W, ...] -> f[W]`, the objective of W workers that share the batch.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.optim.batch_objective import BatchObjective
      >>> objective = BatchObjective(worker_values=jax.vmap(lambda x: jnp.sum(x**2)))
      >>> tx = jaxtrain.optim.easgd(0.1, workers=2)
      >>> params = jnp.ones(3)
      >>> updates, state = tx.update(params, tx.init(params), params, objective=objective)
      >>> jax.device_get(state.workers).round(3)
      array([[0.8, 0.8, 0.8],
             [0.8, 0.8, 0.8]], dtype=float32)
    """

    value: Callable[[Any], jax.Array] | None = None
    outputs: Callable[[Any], Any] | None = None
    output_loss: Callable[[Any], jax.Array] | None = None
    worker_values: Callable[[Any], jax.Array] | None = None

    def complete_params(self, complete: Callable[[Any], Any]) -> "BatchObjective":
        """Return the objective as functions of a part of the parameters; `complete` adds the rest to that part."""

        def of_part(function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
            return None if function is None else lambda part: function(complete(part))

        return BatchObjective(of_part(self.value), of_part(self.outputs), self.output_loss, of_part(self.worker_values))


def unavailable_objective(reason: str) -> BatchObjective:
    """Return an objective whose functions raise `ValueError` with `reason`."""

    def refuse(*_: Any) -> Any:
        raise ValueError(reason)

    return BatchObjective(refuse, refuse, refuse, refuse)


def get_objective(extra: dict[str, Any]) -> BatchObjective:
    """Return the extra argument `objective` of an update, or an empty `BatchObjective` if there is none."""
    return extra.get("objective") or BatchObjective()
