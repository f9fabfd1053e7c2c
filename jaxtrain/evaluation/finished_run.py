"""The evaluation of a finished run's state on one of its splits, optionally with folded batch normalization."""

from typing import Any

from flax import linen as nn

from jaxtrain.config import Config
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.splits import read_splits
from jaxtrain.errors import ConfigError, did_you_mean
from jaxtrain.evaluation.averaged import make_evaluation_variables, needs_statistics
from jaxtrain.evaluation.evaluate import evaluate_in_chunks
from jaxtrain.evaluation.tta import make_run_evaluate
from jaxtrain.models.outputs import abstract_images
from jaxtrain.nn.folding import FoldedModel, fold_batch_norm
from jaxtrain.registry import get_registry
from jaxtrain.training.inputs import place_splits
from jaxtrain.training.plan import Plan
from jaxtrain.training.precision import apply_matmul_precision
from jaxtrain.training.state import TrainState


def evaluate_finished(
    plan: Plan, normalization: Preprocessing, state: TrainState, split: str, *, fold_batchnorm: bool = False
) -> dict[str, Any]:
    """Evaluate `state` on a split, with the run's averaged parameters and test-time augmentation if it has them.

    Args:
      plan: the plan of the run, on one device.
      normalization: the preprocessing with which the run was trained.
      state: the restored state.
      split: "train", "validation" or "test".
      fold_batchnorm: whether to fold batch normalization into the layers before it.

    Returns:
      A dict of `examples`, `loss` and `accuracy`.

    Raises:
      ConfigError: `fold_batchnorm` is set, but the model has no batch normalization to fold.
    """
    config = plan.config
    names = tuple({split, "train"}) if needs_statistics(plan) else (split,)
    splits = place_splits(plan.splits, plan.layout, read_splits(plan.splits, names, config.seed))
    level = config.precision.matmul
    params, variables = apply_matmul_precision(make_evaluation_variables(plan, normalization, splits), level)(state)
    model: nn.Module | FoldedModel = plan.model
    if fold_batchnorm:
        model, params, variables = _fold(plan, params, variables)
    evaluate = apply_matmul_precision(make_run_evaluate(plan, model, normalization), level)
    metrics = evaluate_in_chunks(evaluate, config.evaluation.batch_size)(params, variables, splits[split])
    return {"examples": len(splits[split]), **metrics}


def check_split(plan: Plan, split: str) -> None:
    """Raise `ConfigError` if the run has no such split."""
    if split not in plan.splits.sizes:
        raise ConfigError(f"the run has no split {split!r}{did_you_mean(split, plan.splits.sizes)}", "--split")


def check_foldable(config: Config) -> None:
    """Raise `ConfigError` if evaluation runs the model in training mode; folding is correct only in test mode."""
    views = config.evaluation.tta
    if views is not None and get_registry(views.kind)[views.name].requires == "randomness":
        raise ConfigError(
            f"{views.name} runs the model in training mode, but batch normalization can be folded only for test mode; "
            "use one of the two",
            "--fold-batchnorm",
        )


def _fold(plan: Plan, params: Any, variables: Any) -> tuple[FoldedModel, Any, Any]:
    """Return the model with folded batch normalization, its parameters and its other variables."""
    images = abstract_images(1, plan.splits.image_shape)
    model, folded = fold_batch_norm(plan.model, {"params": params, **variables}, images)
    if not model.pairs:
        raise ConfigError(
            f"{plan.config.model.name} has no batch normalization after a convolution or dense layer, so there is "
            "nothing to fold; leave --fold-batchnorm out",
            "--fold-batchnorm",
        )
    return model, folded.pop("params"), folded
