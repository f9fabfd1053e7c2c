"""The evaluation of a checkpoint in a run directory, with the config, preprocessing and splits of the run."""

from pathlib import Path
from typing import Any

from jaxtrain.config import Config, ParallelConfig, TTASpec
from jaxtrain.errors import CheckpointError, ConfigError
from jaxtrain.evaluation.finished_run import check_foldable, check_split, evaluate_finished
from jaxtrain.run import checkpoints
from jaxtrain.run.compilation_cache import enable_compilation_cache
from jaxtrain.run.directory import Workdir
from jaxtrain.run.out_of_memory import EVALUATION, explain_out_of_memory
from jaxtrain.run.session import restore_target
from jaxtrain.training.plan import make_plan


def evaluate_run(
    path: Path,
    split: str = "test",
    checkpoint: str | int = "best",
    data_dir: str | Path | None = None,
    *,
    fold_batchnorm: bool = False,
    tta: TTASpec | str | None = "own",
) -> dict[str, Any]:
    """Evaluate a run's checkpoint on a split; this changes nothing in the run directory.

    Args:
      path: the run directory.
      split: "train", "validation" or "test".
      checkpoint: "best" (the last one if the run has no best), "last", or a step.
      data_dir: directory of data files, which takes precedence over `data.directory` and JAXTRAIN_DATA.
      fold_batchnorm: whether to fold batch normalization into the layers before it.
      tta: test-time augmentation over which probabilities are averaged, an entry of `jaxtrain list tta` with
        options. "own" takes it from the run's config; "none" and None evaluate the plain images.

    Returns:
      A dict of `step`, `split`, `examples`, `loss` and `accuracy`, and `tta` if test-time augmentation is used.

    Raises:
      JaxtrainError: the run directory, checkpoint or data cannot be used, or an argument does not fit the run.
    """
    directory = Workdir(path)
    config = _replace_tta(directory.read_config(), tta)
    if fold_batchnorm:
        check_foldable(config)
    enable_compilation_cache()
    plan = make_plan(single_device_config(config), data_dir)
    check_split(plan, split)
    step = choose_checkpoint(directory.checkpoints, checkpoint)
    state, _ = checkpoints.restore(directory.checkpoints, step, restore_target(plan))
    with explain_out_of_memory(config, EVALUATION):
        normalization = directory.read_normalization()
        metrics = evaluate_finished(plan, normalization, state, split, fold_batchnorm=fold_batchnorm)
    used = config.evaluation.tta
    shown = {} if used is None else {"tta": str(used)}
    return {"step": step, "split": split, **metrics, **shown}


def single_device_config(config: Config) -> Config:
    """Return the config with one device, for example to evaluate a run that was trained on several devices."""
    return config.replace(devices=1, parallel=ParallelConfig(batch_norm=config.parallel.batch_norm))


def _replace_tta(config: Config, tta: TTASpec | str | None) -> Config:
    """Return the config with other test-time augmentation: a spec or its text, "own", or None or "none" for none."""
    if tta == "own":
        return config
    try:
        spec = None if tta is None or tta == "none" else TTASpec.parse(tta)
    except ConfigError as error:
        raise ConfigError(error.message, error.path.replace("tta", "--tta", 1)) from None
    return config.replace(evaluation=config.evaluation.replace(tta=spec))


def choose_checkpoint(directory: Path, which: str | int) -> int:
    """Return the step of a checkpoint: `which` is "best", "last" or a step."""
    available = checkpoints.steps(directory)
    if not available:
        raise CheckpointError(f"there is no checkpoint in {directory}")
    if str(which).isdecimal():
        if int(which) in available:
            return int(which)
        raise CheckpointError(f"there is no checkpoint of step {which} in {directory}; there are {available}")
    if which == "last":
        return available[-1]
    if which == "best":
        best = checkpoints.read_manifest(directory, available[-1])["progress"]["best_step"]
        return available[-1] if best is None else int(best)
    raise ConfigError(f"{which!r} is not a checkpoint; use best, last or a step", "--checkpoint")
