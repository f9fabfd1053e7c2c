"""Evaluating a checkpoint of a run directory, as it was trained: its config, its preprocessing, its splits."""

from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxtrain.config import Config, ViewsSpec
from jaxtrain.data.splits import read_splits
from jaxtrain.distributed.mesh import on_one_device
from jaxtrain.errors import CheckpointError, ConfigError, did_you_mean
from jaxtrain.evaluation.averaged import make_evaluated, needs_statistics
from jaxtrain.evaluation.run_evaluation import make_run_evaluate
from jaxtrain.nn.folding import FoldedModel, fold_batch_norm
from jaxtrain.registry import table
from jaxtrain.run import checkpoints
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.directory import Workdir
from jaxtrain.run.out_of_memory import EVALUATION, explained
from jaxtrain.run.session import placed
from jaxtrain.training.plan import Plan, make_plan
from jaxtrain.training.precision import at_matmul_precision
from jaxtrain.training.requirements import abstract_images
from jaxtrain.training.streamed import evaluate_chunks, place_splits


def evaluate_run(
    path: Path,
    split: str = "test",
    checkpoint: str | int = "best",
    data_dir: str | Path | None = None,
    *,
    fold_batchnorm: bool = False,
    views: ViewsSpec | str | None = "own",
) -> dict[str, Any]:
    """Metrics of a run's checkpoint on a split; changes nothing in the directory.

    Args:
      path: the run directory.
      split: "train", "validation" or "test".
      checkpoint: "best" (the last one where a run has no best), "last", or a step.
      data_dir: where data files are looked for.
      fold_batchnorm: evaluates the model with its batch normalization folded into the layers before it.
      views: a row of `jaxtrain list views` with options, over which probabilities are averaged; "own" for those of the
        run's config, "none" for the image as it is.

    Returns:
      `step`, `split`, `examples`, `loss` and `accuracy`, and `views` where there are some.
    """
    directory = Workdir(path)
    config = _with_views(directory.read_config(), views)
    if fold_batchnorm:
        _check_foldable(config)
    enable_compilation_cache()
    plan = make_plan(on_one_device(config), data_dir)
    if split not in plan.splits.sizes:
        raise ConfigError(f"the run has no split {split!r}{did_you_mean(split, plan.splits.sizes)}", "--split")
    step = choose_checkpoint(directory.checkpoints, checkpoint)
    state, _ = checkpoints.restore(directory.checkpoints, step, placed(plan))
    names = tuple({split, "train"}) if needs_statistics(plan) else (split,)
    splits = read_splits(plan.splits, names, config.seed)
    arrays = place_splits(plan, splits)
    normalization = directory.read_normalization()
    params, variables = at_matmul_precision(make_evaluated(plan, normalization, arrays), config)(state)
    model: nn.Module | FoldedModel = plan.model
    if fold_batchnorm:
        model, params, variables = _folded(plan, params, variables)
    whole = at_matmul_precision(make_run_evaluate(plan, model, normalization), config)
    evaluate = evaluate_chunks(whole, config.evaluation.batch_size, plan.layout)
    with explained(config, EVALUATION):
        metrics = evaluate(params, variables, arrays[split])
    used = config.evaluation.views
    shown = {} if used is None else {"views": str(used)}
    return {"step": step, "split": split, "examples": len(splits[split]), **metrics, **shown}


def _with_views(config: Config, views: ViewsSpec | str | None) -> Config:
    """The config with these views in place of its own: a spec or its text, "own", or None or "none" for no views."""
    if views == "own":
        return config
    try:
        spec = None if views is None or views == "none" else ViewsSpec.parse(views)
    except ConfigError as error:
        raise ConfigError(error.message, error.path.replace("view", "--views", 1)) from None
    return config.replace(evaluation=config.evaluation.replace(views=spec))


def _check_foldable(config: Config) -> None:
    """Refuses draws of the model, which folding has looked at without them."""
    views = config.evaluation.views
    if views is not None and table(views.kind)[views.name].needs == "randomness":
        raise ConfigError(
            f"{views.name} runs the model as in training, and what can be folded is found, and holds, for the model at "
            "test; use one of the two",
            "--fold-batchnorm",
        )


def _folded(plan: Plan, params: Any, variables: Any) -> tuple[FoldedModel, Any, Any]:
    """The model with its batch normalization folded, its parameters and other variables."""
    images = abstract_images(1, plan.splits.image_shape)
    model, folded = fold_batch_norm(plan.model, {"params": params, **variables}, images)
    if not model.pairs:
        raise ConfigError(
            f"{plan.config.model.name} has no batch normalization that follows a convolution or dense layer: "
            "there is nothing to fold",
            "--fold-batchnorm",
        )
    return model, folded.pop("params"), folded


def choose_checkpoint(directory: Path, which: str | int) -> int:
    """The step that `which` means: "best", "last" or a step of which there is a checkpoint."""
    found = checkpoints.steps(directory)
    if not found:
        raise CheckpointError(f"there is no checkpoint in {directory}")
    if str(which).isdecimal():
        if int(which) in found:
            return int(which)
        raise CheckpointError(f"there is no checkpoint of step {which} in {directory}; there are {found}")
    if which == "last":
        return found[-1]
    if which == "best":
        best = checkpoints.read_manifest(directory, found[-1])["progress"]["best_step"]
        return found[-1] if best is None else int(best)
    raise ConfigError(f"{which!r} is neither a step nor one of best, last", "--checkpoint")
