"""The data that `jaxtrain show` draws and prints: a batch as the model sees it, and the balance of the classes."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxtrain.analysis.batch_images import BatchImages, evaluation_batch, pixels, training_batch
from jaxtrain.analysis.class_balance import ClassBalance, class_balance
from jaxtrain.config.spec import Spec
from jaxtrain.data.source import Split
from jaxtrain.data.splits import fit_normalization, read_splits
from jaxtrain.errors import ConfigError, did_you_mean
from jaxtrain.reporting.contact_sheet import channels_note
from jaxtrain.training.plan import Plan, add_training_colors

EXAMPLES = 24
"""The default number of examples to show; all, if there are fewer."""
_MAX_PARTS, _MIN_WEIGHT = 3, 0.005
"""The largest number of classes named for a mixed label, and the least weight of such a class.

A smaller weight is 0.00 when rounded to two decimals.
"""


@dataclasses.dataclass(frozen=True, eq=False)
class DataPreview:
    """A sample of a run's data, for display.

    Attributes:
      before: examples before augmentation, uint8[N, H, W, C].
      after: model inputs with the preprocessing inverted, uint8[N, H, W, C].
      captions: classes of each example, with weights where labels are mixed.
      title: lines that describe the sample.
      lines: lines on the data set, the augmentation and preprocessing, and the values of the model inputs.
      balance: number of examples of each class.
      warnings: warnings about the data.
    """

    before: np.ndarray
    after: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    title: tuple[str, ...]
    lines: tuple[str, ...]
    balance: ClassBalance
    warnings: tuple[str, ...]


def preview_data(plan: Plan, split: str = "train", step: int = 0, examples: int | None = None) -> DataPreview:
    """Read the data, fit the preprocessing, and make the batch that training would make.

    Args:
      plan: the run's plan; the batch does not depend on its number of devices.
      split: "train" for the batch of a training step; "validation" or "test" for evenly spaced examples of that split.
      step: number of the training step, from 0.
      examples: number of examples to show, the first of the batch; None for `EXAMPLES`, or all if there are fewer.

    Raises:
      ConfigError: the split or step does not exist, or there are fewer examples than requested.
    """
    available = _count_examples(plan, split, step)
    number = min(EXAMPLES, available) if examples is None else examples
    if not 1 <= number <= available:
        limit = f"a training batch has {available:,}" if split == "train" else f"the {split} split has {available:,}"
        raise ConfigError(f"{number:,} examples cannot be shown; {limit}", "--examples")
    loaded = _read_all_splits(plan)
    normalization = fit_normalization(plan.splits, loaded["train"])
    plan = add_training_colors(plan, loaded["train"])
    source = loaded[split].pad(plan.config.data.pad)
    view = (
        training_batch(plan, normalization, source, step)
        if split == "train"
        else evaluation_batch(normalization, source, number)
    )
    names = plan.splits.dataset.class_names
    balance = class_balance(names, {name: loaded[name] for name in plan.splits.sizes})
    description = _describe_sample(split, step, number, available)
    return DataPreview(
        before=view.before[:number],
        after=pixels(view.seen[:number], normalization),
        captions=tuple(label_parts(label, names) for label in view.labels[:number]),
        title=(
            f"{plan.splits.dataset.name}: {description}",
            _describe_pairs(plan, split),
            *_describe_processing(plan, split),
        ),
        lines=(*describe_data(plan), *_describe_processing(plan, split), *describe_values(view.seen)),
        balance=balance,
        warnings=(*balance.warnings(), *_finiteness_warnings(view)),
    )


def _read_all_splits(plan: Plan) -> Mapping[str, Split]:
    return read_splits(plan.splits, tuple(plan.splits.sizes), plan.config.seed)


def label_parts(label: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the class of a label int32[], or the largest weights of a mixed one f32[K]: `("cat 0.70", "dog 0.30")`."""
    if label.ndim == 0:
        return (names[int(label)],)
    largest = [int(i) for i in np.argsort(-label, kind="stable") if label[i] >= _MIN_WEIGHT]
    if len(largest) == 1 and label[largest[0]] >= 1 - _MIN_WEIGHT:
        return (names[largest[0]],)
    parts = [f"{names[i]} {label[i]:.2f}" for i in largest[:_MAX_PARTS]]
    rest = float(label.sum() - label[largest[:_MAX_PARTS]].sum())
    return (*parts, f"others {rest:.2f}") if rest >= _MIN_WEIGHT else tuple(parts)


def describe_data(plan: Plan) -> tuple[str, ...]:
    """Return a line on the data set."""
    splits = plan.splits
    sizes = ", ".join(f"{count:,} {name}" for name, count in splits.sizes.items())
    size = "x".join(map(str, splits.image_shape))
    return (f"data: {splits.dataset.name}, {sizes}; {size} images, {splits.dataset.num_classes:,} classes",)


def describe_values(seen: np.ndarray) -> tuple[str, ...]:
    """Return lines on the values of the model inputs f32[N, H, W, C]."""
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


def _count_examples(plan: Plan, split: str, step: int) -> int:
    """Return the number of examples to choose from; raise `ConfigError` where the split or step does not exist."""
    sizes = plan.splits.sizes
    if split not in sizes:
        raise ConfigError(f"the run has no split {split!r}{did_you_mean(split, sizes)}", "--split")
    if split != "train":
        if step:
            raise ConfigError(f"steps are batches of training; omit --step for the {split} split", "--step")
        return sizes[split]
    if not 0 <= step < plan.total_steps:
        raise ConfigError(
            f"the run has no step {step:,}; its {plan.total_steps:,} steps are counted from 0 to "
            f"{plan.total_steps - 1:,}",
            "--step",
        )
    return plan.clock.batch_size


def _describe_sample(split: str, step: int, number: int, available: int) -> str:
    if split == "train":
        return f"training batch of step {step:,}, {number:,} of its {available:,} examples"
    return f"{split} split, {number:,} of its {available:,} examples, evenly spaced"


def _describe_pairs(plan: Plan, split: str) -> str:
    left = "before augmentation" if split == "train" else "as loaded"
    note = channels_note(plan.splits.image_shape[2])
    return f"left {left}, right as the model sees it, converted back to pixels{f'; {note}' if note else ''}"


def _describe_processing(plan: Plan, split: str) -> tuple[str, ...]:
    """Return lines on augmentation, mixing and preprocessing."""
    data = plan.config.data
    preprocessing = f"preprocessing: {_format_spec(data.normalize)}, fitted on the training split"
    if split != "train":
        return "augmentation: none in evaluation", preprocessing
    decode = (f"at decoding: {_format_specs(data.decode)}",) if data.decode else ()
    augment = _format_specs(data.augment)
    if data.augment_until is not None:
        augment += f" until {data.augment_until}, then {_format_specs(data.augment_after)}"
    mix = (f"mixing: {_format_specs(data.mix)}",) if data.mix else ()
    return (
        *decode,
        f"augmentation: {augment}",
        *mix,
        preprocessing + (", before augmentation" if data.normalize_first else ""),
    )


def _format_specs(specs: tuple[Spec, ...]) -> str:
    return " | ".join(map(_format_spec, specs)) or "none"


def _format_spec(spec: Spec) -> str:
    return str(spec).removesuffix("()")


def _finiteness_warnings(view: BatchImages) -> tuple[str, ...]:
    count = int((~np.isfinite(view.seen)).sum())
    return (f"{count:,} of the values of the model inputs are not finite",) if count else ()
