"""What a training step tells an optimizer about the objective of its batch, besides the gradient."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class BatchObjective:
    """The objective of the batch of one step, as functions of the parameters; None for what is not known.

    A training step hands it to the optimizer as the extra argument `objective`, beside optax's own `value`, `grad` and
    `value_fn`. It costs nothing where it is not used. Give it yourself in a loop of your own:

    >>> import jax, jax.numpy as jnp, jaxtrain
    >>> from jaxtrain.optim.batch_objective import BatchObjective
    >>> objective = BatchObjective(worker_values=jax.vmap(lambda x: jnp.sum(x**2)))
    >>> tx = jaxtrain.optim.easgd(0.1, workers=2)
    >>> params = jnp.ones(3)
    >>> updates, state = tx.update(params, tx.init(params), params, objective=objective)

    Attributes:
      value: `params -> f[]`, the mean loss of the batch and the penalties.
      outputs: `params -> logits f[N, K]`, or the model's `Outputs` where it has auxiliary heads.
      output_loss: `logits -> f[]`, the mean loss without penalties.
      worker_values: `stacked params [W, ...] -> f[W]`, the objective of W workers that share the batch.
    """

    value: Callable[[Any], jax.Array] | None = None
    outputs: Callable[[Any], Any] | None = None
    output_loss: Callable[[Any], jax.Array] | None = None
    worker_values: Callable[[Any], jax.Array] | None = None

    def complete_params(self, complete: Callable[[Any], Any]) -> "BatchObjective":
        """Return the objective as functions of some of the parameters, which `complete` makes whole."""

        def of_part(function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
            return None if function is None else lambda part: function(complete(part))

        return BatchObjective(of_part(self.value), of_part(self.outputs), self.output_loss, of_part(self.worker_values))


def unavailable_objective(reason: str) -> BatchObjective:
    """Return an objective that raises `ValueError` with `reason` when an optimizer evaluates it."""

    def refuse(*_: Any) -> Any:
        raise ValueError(reason)

    return BatchObjective(refuse, refuse, refuse, refuse)


def objective_of(extra: dict[str, Any]) -> BatchObjective:
    """Return the extra argument `objective` of an update, or one that knows nothing."""
    return extra.get("objective") or BatchObjective()
