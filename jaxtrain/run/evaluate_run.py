"""`jaxtrain eval`: a checkpoint of a run directory, evaluated with the run's own config, preprocessing and splits."""

from pathlib import Path
from typing import Any

from jaxtrain.config import Config, ParallelConfig, ViewsSpec
from jaxtrain.errors import CheckpointError, ConfigError
from jaxtrain.evaluation.finished_run import check_foldable, check_split, evaluate_finished
from jaxtrain.run import checkpoints
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.directory import Workdir
from jaxtrain.run.out_of_memory import EVALUATION, explained
from jaxtrain.run.session import restore_target
from jaxtrain.training.plan import make_plan


def evaluate_run(
    path: Path,
    split: str = "test",
    checkpoint: str | int = "best",
    data_dir: str | Path | None = None,
    *,
    fold_batchnorm: bool = False,
    views: ViewsSpec | str | None = "own",
) -> dict[str, Any]:
    """Evaluate a run's checkpoint on a split; nothing in the directory is changed.

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
        check_foldable(config)
    enable_compilation_cache()
    plan = make_plan(on_one_device(config), data_dir)
    check_split(plan, split)
    step = choose_checkpoint(directory.checkpoints, checkpoint)
    state, _ = checkpoints.restore(directory.checkpoints, step, restore_target(plan))
    with explained(config, EVALUATION):
        normalization = directory.read_normalization()
        metrics = evaluate_finished(plan, normalization, state, split, fold_batchnorm=fold_batchnorm)
    used = config.evaluation.views
    shown = {} if used is None else {"views": str(used)}
    return {"step": step, "split": split, **metrics, **shown}


def on_one_device(config: Config) -> Config:
    """Return the config of what one device does, such as evaluation, however many devices the run has."""
    return config.replace(devices=1, parallel=ParallelConfig(batch_norm=config.parallel.batch_norm))


def _with_views(config: Config, views: ViewsSpec | str | None) -> Config:
    """The config with these views in place of its own: a spec or its text, "own", or None or "none" for no views."""
    if views == "own":
        return config
    try:
        spec = None if views is None or views == "none" else ViewsSpec.parse(views)
    except ConfigError as error:
        raise ConfigError(error.message, error.path.replace("view", "--views", 1)) from None
    return config.replace(evaluation=config.evaluation.replace(views=spec))


def choose_checkpoint(directory: Path, which: str | int) -> int:
    """Return the step that `which` means: "best", "last" or a step of which there is a checkpoint."""
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
