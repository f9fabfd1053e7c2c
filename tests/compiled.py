"""The compiled training step of a run."""

from typing import Any

from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.run.compiled_run import compile_run
from jaxtrain.training.plan import Plan


def compiled_step(plan: Plan) -> Any:
    """What the loop of `plan` calls, as XLA leaves it."""
    data = load_splits(plan.splits, ("train",), 0)
    run = compile_run(plan, fit_normalization(plan.splits, data["train"]), data)
    return run.lower(plan.abstract).compile()
