"""The compiled training step of a run."""

from typing import Any

from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.run.compiled_run import make_tools
from jaxtrain.training.plan import Plan
from jaxtrain.training.streamed import place_splits


def compiled_step(plan: Plan) -> Any:
    """What the loop of `plan` calls, as XLA leaves it."""
    data = load_splits(plan.splits, ("train",), 0)
    tools = make_tools(plan, fit_normalization(plan.splits, data["train"]), place_splits(plan, data))
    return tools.lowered(plan.abstract).compile()
