"""The config of a run: frozen, typed sections whose every field is checked when it is written."""

import dataclasses
import typing
from typing import Any, ClassVar, Literal, Self

from jaxtrain.config.annotations import ByPath, LayerDecay, LossScale, Margin, NonNegativeInt, PositiveInt, Seed, Side
from jaxtrain.config.coerce import coerce
from jaxtrain.config.duration import Duration
from jaxtrain.config.spec import (
    AugmentationSpec,
    AverageSpec,
    DatasetSpec,
    GradientTransformSpec,
    HostAugmentationSpec,
    InitializationSpec,
    LossSpec,
    MixingSpec,
    ModelSpec,
    OptimizerSpec,
    PenaltySpec,
    PreprocessingSpec,
    ViewsSpec,
)
from jaxtrain.errors import ConfigError, did_you_mean

_EVERY_PARAMETER: ByPath = ((".*", 1.0),)


class Section:
    """Base of the sections: fields are coerced to their annotations, and unknown ones refused with a hint."""

    path: ClassVar[str] = ""
    shorthand: ClassVar[str] = ""
    """The setting that a text stands for where a section is expected: `precision=bfloat16`; empty for none."""

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Refuses settings that there are not, or that are missing, in words better than a TypeError's."""
        fields = {f.name for f in dataclasses.fields(typing.cast(Any, cls))}
        for key in settings:
            if key not in fields:
                raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, fields)}", _join(cls.path, key))
        missing = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if _required(f) and f.name not in settings]
        if missing:
            raise ConfigError(f"the setting {missing[0]!r} is needed and has no default", _join(cls.path, missing[0]))
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """What `__new__` is given when a copy is made or a pickle read."""
        return (), {f.name: getattr(self, f.name) for f in dataclasses.fields(typing.cast(Any, self))}

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(typing.cast(Any, self)):
            path = _join(self.path, field.name)
            object.__setattr__(self, field.name, coerce(getattr(self, field.name), hints[field.name], path))

    def replace(self, **changes: Any) -> Self:
        """The same section with some settings changed."""
        return dataclasses.replace(typing.cast(Any, self), **changes)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """What is trained on, and how it reaches the model.

    Attributes:
      dataset: the source, a row of `jaxtrain list datasets`.
      batch_size: examples in a training step, over all devices; "all" for the whole training split, in a fixed order.
      micro_batch: examples that go through the model at a time, where a batch is too large for the memory; the step
        is the same but for rounding, statistics of a batch (BatchNorm) aside. None for the whole batch at once. With
        `parallel.backend=pmap` of the share of each device.
      directory: where the data set's files are; none for `--data-dir`, then the variable JAXTRAIN_DATA.
      validation: what a seeded permutation takes off the training split for validation: "5000 examples", "10%".
      resize: height and width to which images are resampled (bilinear) when they are loaded; none to leave them.
      pad: pixels of 0 added on each side when they are loaded (28x28 to 32x32 is 2).
      normalize: a row of `jaxtrain list preprocessings`, fitted on the training split: "mean_std" (of a channel),
        "scale" (to [0, 1] alone), "mean_image", "zca(epsilon=0.01)".
      augment: what is done to each image of a training batch inside the step: "pad_crop(4)|flip_lr".
      augment_until: when it ends: "90%", "270 epochs"; none for never.
      augment_after: what is done from then on.
      mix: what is done to the whole batch after that, with probabilities for labels: "mixup(0.2)|label_smoothing(0.1)".
      normalize_first: normalizes a training batch before it is augmented, so that `pad_crop` pads with 0 after the mean
        is subtracted, as He et al. 2015 do; for augmentations that move pixels and leave their values alone.
      host: what is made of a training picture of any size while it is decoded, rows of `jaxtrain list
        host_augmentations`: "random_resized_crop(224)|flip_lr". With it pictures are not decoded at load but ahead of
        the step that needs them. Empty to hold the data set in memory.
      host_eval: the same for validation and test; without a draw. Empty for what goes with `host`:
        "resize_short(256)|center_crop(224)", say.
      workers: threads that read for `host` or `stream`; 0 for none but the main one. None for one a core. It changes
        no number.
      stream: reads each batch from the files ahead of its step, where the data set is larger than the memory of the
        devices or of the host; the steps are those of a run in memory. With `host` it says nothing more.
      shuffle: how the order of an epoch is drawn: "permutation", 4 bytes an example; "index", computed where it is
        looked at, and keeps nothing where examples are streamed. They are different orders.
    """

    path: ClassVar[str] = "data"
    dataset: DatasetSpec
    batch_size: PositiveInt | Literal["all"]
    micro_batch: PositiveInt | None = None
    directory: str | None = None
    validation: Duration | None = None
    resize: tuple[Side, Side] | None = None
    pad: Margin = 0
    normalize: PreprocessingSpec = dataclasses.field(default_factory=lambda: PreprocessingSpec("mean_std"))
    augment: tuple[AugmentationSpec, ...] = ()
    augment_until: Duration | None = None
    augment_after: tuple[AugmentationSpec, ...] = ()
    mix: tuple[MixingSpec, ...] = ()
    normalize_first: bool = False
    host: tuple[HostAugmentationSpec, ...] = ()
    host_eval: tuple[HostAugmentationSpec, ...] = ()
    workers: NonNegativeInt | None = None
    stream: bool = False
    shuffle: Literal["permutation", "index"] = "permutation"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation is not None:
            try:
                self.validation.examples(1)
            except ConfigError as error:
                raise error.under("data.validation") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """When the validation split is evaluated, and which of its metrics says what "best" is.

    Attributes:
      every: time between two evaluations.
      batch_size: examples in an evaluation step (forward only).
      best: the metric of the validation split by which the best checkpoint is kept, and which a plateau watches.
      statistics_batches: batches of training images, spread over the split, from which batch statistics (BatchNorm)
        are computed anew for averaged parameters.
      views: a row of `jaxtrain list views`, over which probabilities are averaged when training has ended: for the
        numbers of the validation and test split in result.json, and of the test split in metrics.jsonl. What is
        measured during training, by which the best checkpoint is kept, and the training split are without. None for
        the image as it is.
    """

    path: ClassVar[str] = "evaluation"
    every: Duration = Duration(1.0, "epochs")
    batch_size: PositiveInt = 500
    best: Literal["accuracy", "loss"] = "accuracy"
    statistics_batches: PositiveInt = 50
    views: ViewsSpec | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Section):
    """When the state is saved, and how many saved states are kept besides the best one."""

    path: ClassVar[str] = "checkpoint"
    every: Duration = Duration(1.0, "epochs")
    keep: PositiveInt = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig(Section):
    """When training metrics are written, and whether TensorBoard events are."""

    path: ClassVar[str] = "logging"
    every: Duration = Duration(50.0, "steps")
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParametersConfig(Section):
    """Ordered rules `regex -> value` over parameter paths (`Conv_0/kernel`): the first match wins, and every
    parameter must be matched.

    Attributes:
      learning_rate: multiplier of the learning rate.
      layer_decay: a layer's learning rate as a fraction of that of the layer after it (Clark et al. 2020); it
        multiplies `learning_rate`. None for no decay.
      frozen: 1 for parameters that stay as initialized, 0 for those that train.
    """

    path: ClassVar[str] = "parameters"
    learning_rate: ByPath = _EVERY_PARAMETER
    layer_decay: LayerDecay | None = None
    frozen: ByPath = ((".*", 0.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionConfig(Section):
    """What a run computes in; its policy may stand for it: `precision=bfloat16`; docs/precision_and_memory.md.

    Attributes:
      policy: of products, convolutions and what lies between: "float32" (or what the model's `dtype` says), "bfloat16",
        or "float16" with a loss scale that follows the gradients. Parameters, the optimizer's state, statistics of
        normalizations, logits and losses are float32 all the same.
      matmul: how exactly a device multiplies float32 (`jax.default_matmul_precision`): "default" is what is fastest
        there (TF32 on a GPU, one pass of bfloat16 on a TPU), "highest" float32 itself.
      loss_scale: what "float16" begins to multiply the loss by.
      loss_scale_interval: steps with finite gradients after which it is doubled.
    """

    path: ClassVar[str] = "precision"
    shorthand: ClassVar[str] = "policy"
    policy: Literal["float32", "bfloat16", "float16"] = "float32"
    matmul: Literal["default", "high", "highest", "bfloat16", "tensorfloat32", "float32"] = "default"
    loss_scale: LossScale = 2.0**15
    loss_scale_interval: PositiveInt = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Section):
    """How a step is divided among devices. But for `batch_norm`, none of it changes more than rounding.

    Attributes:
      backend: "jit", the engine: one program for all devices, laid out over a mesh; or "pmap", the classic path, where
        each device runs the step on its share of the batch and gradients are averaged.
      fsdp: divides parameters and optimizer state among the devices (fully sharded data parallelism, Rajbhandari et al.
        2020, ZeRO stage 3): a step gathers each parameter where it is used.
      fsdp_min_size: numbers in the smallest array that is divided; smaller ones are on every device.
      model: devices along the model axis, among which wide layers are divided by their outputs; the rest of the devices
        share the batch.
      model_min_width: outputs of the narrowest layer that is divided so.
      rules: ordered rules `regex -> axes` over the paths of the state that come before the automatic choice; one word
        a dimension, "data", "model" or "-" for none: {"fc1/kernel": "- model"}. "" keeps an array whole.
      axis_types: of the mesh: "auto", where the compiler works layouts out, or "explicit", where they are part of an
        array's type and what does not fit is an error.
      batch_norm: what batch normalization takes mean and variance of: the "global" batch; the share of each "device";
        or groups of so many examples (ghost batches, Hoffer et al. 2017).
    """

    path: ClassVar[str] = "parallel"
    backend: Literal["jit", "pmap"] = "jit"
    fsdp: bool = False
    fsdp_min_size: PositiveInt = 2**14
    model: PositiveInt = 1
    model_min_width: PositiveInt = 1024
    rules: tuple[tuple[str, str], ...] = ()
    axis_types: Literal["auto", "explicit"] = "auto"
    batch_norm: Literal["global", "device"] | PositiveInt = "global"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Section):
    """A training run. Two runs of equal configs on the same machine end in bitwise the same parameters.

    Attributes:
      model: a row of `jaxtrain list models`.
      data: what is trained on.
      optimizer: a row of `jaxtrain list optimizers`.
      train_for: length of the run: "30 epochs", "64000 steps".
      loss: a row of `jaxtrain list losses`.
      penalties: rows of `jaxtrain list penalties`, added to the loss that is minimized: "l2(1e-4)|l1(1e-5)".
      gradients: rows of `jaxtrain list gradient_transforms`, applied in order before the optimizer.
      average: a row of `jaxtrain list averages`: evaluation uses the averaged parameters.
      base_batch_size: the batch size for which the learning rate is written; it is multiplied by
        `data.batch_size / base_batch_size` (the linear scaling rule, Goyal et al. 2017). None to take it as it is.
      initialize: a row of `jaxtrain list initializations`, which makes the initial parameters after a look at training
        images, as in "whiten_patches". None for what the model itself begins with.
      seed: what every random draw of the run is derived from.
      devices: how many devices share the work; none for all there are, on all hosts.
      parallel: how they share it.
      steps_per_dispatch: training steps in one call of the compiled program, where nothing is due earlier; no number
        depends on it (convolutions on a CPU, which are rounded otherwise in a loop, aside). None for as many as small
        steps need, and for one where a loop would slow the step (convolutions on a CPU) or batches are streamed.
      precision: what is computed in: "bfloat16", "float16".
    """

    model: ModelSpec
    data: DataConfig
    optimizer: OptimizerSpec
    train_for: Duration
    loss: LossSpec = dataclasses.field(default_factory=lambda: LossSpec("cross_entropy"))
    penalties: tuple[PenaltySpec, ...] = ()
    gradients: tuple[GradientTransformSpec, ...] = ()
    average: AverageSpec | None = None
    base_batch_size: PositiveInt | None = None
    initialize: InitializationSpec | None = None
    seed: Seed = 0
    devices: PositiveInt | None = None
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    steps_per_dispatch: PositiveInt | None = None
    parameters: ParametersConfig = dataclasses.field(default_factory=ParametersConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
    precision: PrecisionConfig = dataclasses.field(default_factory=PrecisionConfig)
