"""What `jaxtrain show` draws and prints: a batch as the model sees it, and how the classes are spread."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxtrain.analysis.batch_images import BatchView, evaluation_view, pixels, training_view
from jaxtrain.analysis.class_balance import ClassBalance, class_balance
from jaxtrain.config.spec import Spec
from jaxtrain.data.source import Split
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.errors import ConfigError, did_you_mean
from jaxtrain.reporting.contact_sheet import channels_note
from jaxtrain.training.plan import Plan, with_training_colors

EXAMPLES = 24
"""Shown where nobody says how many, if there are so many."""
_MOST_PARTS, _LEAST_WEIGHT = 3, 0.005
"""Classes of a mixed label that are named, and the weight, rounded to two places nothing, below which none is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A look at the data of a run.

    Attributes:
      before: uint8[N, H, W, C], examples before augmentation.
      after: uint8[N, H, W, C], as the model sees them, brought back to pixels.
      captions: their classes, with weights where labels are mixed.
      title: lines that say what this is.
      lines: on the data and on the values that the model is given.
      balance: examples of each class.
      warnings: sentences on what is amiss.
    """

    before: np.ndarray
    after: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    title: tuple[str, ...]
    lines: tuple[str, ...]
    balance: ClassBalance
    warnings: tuple[str, ...]


def look(plan: Plan, split: str = "train", step: int = 0, examples: int | None = None) -> Look:
    """Reads the data, fits the preprocessing and makes the batch that training would make.

    Args:
      plan: of the run; a batch is the same whatever its number of devices.
      split: "train" for the batch of a training step; "validation" or "test" for examples spread evenly over it.
      step: of training, counted from 0.
      examples: how many are shown, the first of the batch; `EXAMPLES`, or all where there are fewer, for None.

    Raises:
      ConfigError: there is no such split or step, or there are not so many examples.
    """
    available = _available(plan, split, step)
    number = min(EXAMPLES, available) if examples is None else examples
    if not 1 <= number <= available:
        whole = f"a training batch has {available:,}" if split == "train" else f"the {split} split has {available:,}"
        raise ConfigError(f"{number:,} examples cannot be shown; {whole}", "--examples")
    loaded = _loaded(plan)
    normalization = fit_normalization(plan.splits, loaded["train"])
    plan = with_training_colors(plan, loaded["train"])
    source = loaded[split].pad(plan.config.data.pad)
    view = (
        training_view(plan, normalization, source, step)
        if split == "train"
        else evaluation_view(normalization, source, number)
    )
    names = plan.splits.dataset.class_names
    balance = class_balance(names, {name: loaded[name] for name in plan.splits.sizes})
    what = _what(split, step, number, available)
    return Look(
        before=view.before[:number],
        after=pixels(view.seen[:number], normalization),
        captions=tuple(label_parts(label, names) for label in view.labels[:number]),
        title=(f"{plan.splits.dataset.name}: {what}", _pairs(plan, split), *_told(plan, split)),
        lines=(*describe_data(plan), *_told(plan, split), *describe_values(view.seen)),
        balance=balance,
        warnings=(*balance.warnings(), *_not_finite(view)),
    )


def _loaded(plan: Plan) -> Mapping[str, Split]:
    return read_splits(plan.splits, tuple(plan.splits.sizes), plan.config.seed)


def label_parts(label: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """The class of a label int32[], or the largest weights of a mixed one f32[K]: `("cat 0.70", "dog 0.30")`."""
    if label.ndim == 0:
        return (names[int(label)],)
    largest = [int(i) for i in np.argsort(-label, kind="stable") if label[i] >= _LEAST_WEIGHT]
    if len(largest) == 1 and label[largest[0]] >= 1 - _LEAST_WEIGHT:
        return (names[largest[0]],)
    parts = [f"{names[i]} {label[i]:.2f}" for i in largest[:_MOST_PARTS]]
    rest = float(label.sum() - label[largest[:_MOST_PARTS]].sum())
    return (*parts, f"others {rest:.2f}") if rest >= _LEAST_WEIGHT else tuple(parts)


def describe_data(plan: Plan) -> tuple[str, ...]:
    """Lines on the data set."""
    splits = plan.splits
    sizes = ", ".join(f"{count:,} {name}" for name, count in splits.sizes.items())
    size = "x".join(map(str, splits.image_shape))
    return (f"data: {splits.dataset.name}, {sizes}; {size} images, {splits.dataset.num_classes:,} classes",)


def describe_values(seen: np.ndarray) -> tuple[str, ...]:
    """Lines on the values f32[N, H, W, C] that the model is given."""
    values = seen.astype(np.float64)
    shape = ", ".join(map(str, seen.shape))
    lines = [
        f"the model sees: {seen.dtype}[{shape}], values from {values.min():.3g} to {values.max():.3g}, "
        f"mean {values.mean():.3g}, std {values.std():.3g}"
    ]
    if 1 < seen.shape[3] <= 4:
        each = [" ".join(f"{v:.3g}" for v in f(values, axis=(0, 1, 2))) for f in (np.mean, np.std)]
        lines.append(f"  by channel: mean {each[0]}; std {each[1]}")
    return tuple(lines)


def _available(plan: Plan, split: str, step: int) -> int:
    """How many examples there are to show; refuses splits and steps that there are not."""
    sizes = plan.splits.sizes
    if split not in sizes:
        raise ConfigError(f"the run has no split {split!r}{did_you_mean(split, sizes)}", "--split")
    if split != "train":
        if step:
            raise ConfigError(f"steps are batches of training; leave it out for the {split} split", "--step")
        return sizes[split]
    if not 0 <= step < plan.total_steps:
        raise ConfigError(
            f"the run has no step {step:,}; its {plan.total_steps:,} steps are counted from 0 to "
            f"{plan.total_steps - 1:,}",
            "--step",
        )
    return plan.clock.batch_size


def _what(split: str, step: int, number: int, available: int) -> str:
    if split == "train":
        return f"training batch of step {step:,}, {number:,} of its {available:,} examples"
    return f"{split} split, {number:,} of its {available:,} examples, evenly spread"


def _pairs(plan: Plan, split: str) -> str:
    left = "before augmentation" if split == "train" else "as loaded"
    note = channels_note(plan.splits.image_shape[2])
    return f"left {left}, right as the model sees it, brought back to pixels{f'; {note}' if note else ''}"


def _told(plan: Plan, split: str) -> tuple[str, ...]:
    """Lines on what is done to the images."""
    data = plan.config.data
    preprocessing = f"preprocessing: {_written(data.normalize)}, fitted on the training split"
    if split != "train":
        return "augmentation: none in evaluation", preprocessing
    host = (f"on the host: {_listed(data.host)}",) if data.host else ()
    augment = _listed(data.augment)
    if data.augment_until is not None:
        augment += f" until {data.augment_until}, then {_listed(data.augment_after)}"
    mix = (f"mixing: {_listed(data.mix)}",) if data.mix else ()
    return (
        *host,
        f"augmentation: {augment}",
        *mix,
        preprocessing + (", before augmentation" if data.normalize_first else ""),
    )


def _listed(specs: tuple[Spec, ...]) -> str:
    return " | ".join(map(_written, specs)) or "none"


def _written(spec: Spec) -> str:
    return str(spec).removesuffix("()")


def _not_finite(view: BatchView) -> tuple[str, ...]:
    count = int((~np.isfinite(view.seen)).sum())
    return (f"{count:,} of the values that the model is given are not finite",) if count else ()
