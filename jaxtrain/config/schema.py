"""The config of a run: frozen, typed sections whose fields are checked at construction."""

import dataclasses
import typing
from typing import Any, ClassVar, Literal, Self

from jaxtrain.annotations import ByPath, LayerDecay, LossScale, Margin, NonNegativeInt, PositiveInt, Seed, Side
from jaxtrain.config.coerce import coerce
from jaxtrain.config.duration import Duration
from jaxtrain.config.spec import (
    AugmentationSpec,
    AverageSpec,
    DatasetSpec,
    DecodeTransformSpec,
    GradientTransformSpec,
    InitializationSpec,
    LossSpec,
    MixingSpec,
    ModelSpec,
    OptimizerSpec,
    PenaltySpec,
    PreprocessingSpec,
    TTASpec,
)
from jaxtrain.errors import ConfigError, did_you_mean

_EVERY_PARAMETER: ByPath = ((".*", 1.0),)


class Section:
    """The base class of config sections; fields are coerced to their annotations, and unknown ones are rejected."""

    path: ClassVar[str] = ""
    shorthand: ClassVar[str] = ""
    """The field that a string sets in place of a whole section, as in `precision=bfloat16`; empty for none."""

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Reject unknown or missing settings with clearer messages than those of a TypeError."""
        fields = {f.name for f in dataclasses.fields(typing.cast(Any, cls))}
        for key in settings:
            if key not in fields:
                raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, fields)}", _join_path(cls.path, key))
        required = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if _is_required(f)]
        missing = [name for name in required if name not in settings]
        if missing:
            raise ConfigError(
                f"the setting {missing[0]!r} is required and has no default", _join_path(cls.path, missing[0])
            )
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """Return the arguments of `__new__` for copies and pickles."""
        return (), {f.name: getattr(self, f.name) for f in dataclasses.fields(typing.cast(Any, self))}

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(typing.cast(Any, self)):
            path = _join_path(self.path, field.name)
            object.__setattr__(self, field.name, coerce(getattr(self, field.name), hints[field.name], path))

    def replace(self, **changes: Any) -> Self:
        """Return the same section with some settings changed."""
        return dataclasses.replace(typing.cast(Any, self), **changes)


def _join_path(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """The data set, its splits, and its path to the model: preprocessing, augmentation, mixing and streaming.

    Attributes:
      dataset: the data set, one of `jaxtrain list datasets`.
      batch_size: the number of examples in a training step, over all devices; "all" for the whole training split, in a
        fixed order.
      micro_batch: the number of examples in one forward and backward pass, if a whole batch does not fit in memory. The
        step is the same except for rounding and for batch statistics (BatchNorm). None for the whole batch at once.
        With `parallel.backend=pmap` it counts examples of one device.
      directory: the directory of the data set's files; none for `--data-dir`, then the variable JAXTRAIN_DATA.
      validation: the part of the training split that a seeded permutation reserves for validation: "5000 examples",
        "10%".
      resize: the height and width to which images are resampled (bilinear) at loading; none for the original size.
      pad: the number of zero pixels added on each side at loading (2 for 28x28 to 32x32).
      normalize: the preprocessing, one of `jaxtrain list preprocessings`, fitted on the training split: "mean_std" (per
        channel), "scale" (only to [0, 1]), "mean_image", "zca(epsilon=0.01)".
      augment: the augmentations of each image of a training batch, inside the step: "pad_crop(4)|flip_lr".
      augment_until: the time at which `augment` ends: "90%", "270 epochs"; none for the end of the run.
      augment_after: the augmentations after `augment_until`.
      mix: the mixing of the whole batch after augmentation, with probabilities as labels:
        "mixup(0.2)|label_smoothing(0.1)".
      normalize_first: whether a training batch is normalized before augmentation, so that `pad_crop` pads with 0 after
        the mean is subtracted, as in He et al. 2015. It suits augmentations that move pixels and keep their values.
      decode: the transforms of training images of any size at decoding, from `jaxtrain list decode_transforms`:
        "random_resized_crop(224)|flip_lr". Images are then decoded ahead of each step and not at loading. Empty to hold
        the data set in memory.
      decode_eval: the decode transforms for validation and test, without random draws. Empty for the counterpart of
        `decode`, such as "resize_short(256)|center_crop(224)".
      workers: the number of threads that read for `decode` or `stream`; 0 for only the main thread, None for one per
        core. It does not change any result.
      stream: whether each batch is read from the files ahead of its step, for data sets larger than the memory of the
        devices or of the host. The steps are the same as with data in memory. It has no effect with `decode`.
      shuffle: the method that draws the order of an epoch: "permutation" stores 4 bytes per example; "index" computes
        each index when it is needed and stores nothing if examples are streamed. The two orders differ.
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
    decode: tuple[DecodeTransformSpec, ...] = ()
    decode_eval: tuple[DecodeTransformSpec, ...] = ()
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
    """The evaluation of the validation split and the metric that selects the best checkpoint.

    Attributes:
      every: the time between two evaluations.
      batch_size: the number of examples in an evaluation step (forward only).
      best: the metric of the validation split that selects the best checkpoint and that a plateau schedule monitors.
      statistics_batches: the number of batches of training images, spread over the split, from which the BatchNorm
        statistics of averaged parameters are recomputed.
      tta: the test-time augmentation, one of `jaxtrain list tta`, over which probabilities are averaged after
        training. It applies to the validation and test metrics in result.json and to the test metrics in metrics.jsonl.
        It does not apply to evaluations during training, which select the best checkpoint, or to the training split.
        None for the unchanged image.
    """

    path: ClassVar[str] = "evaluation"
    every: Duration = Duration(1.0, "epochs")
    batch_size: PositiveInt = 500
    best: Literal["accuracy", "loss"] = "accuracy"
    statistics_batches: PositiveInt = 50
    tta: TTASpec | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Section):
    """When checkpoints are saved, and how many are kept.

    Attributes:
      every: the interval between checkpoints.
      keep: the number of checkpoints that are kept besides the best one.
    """

    path: ClassVar[str] = "checkpoint"
    every: Duration = Duration(1.0, "epochs")
    keep: PositiveInt = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig(Section):
    """When training metrics are written, and where.

    Attributes:
      every: the interval at which training metrics are written.
      tensorboard: whether TensorBoard events are written too.
    """

    path: ClassVar[str] = "logging"
    every: Duration = Duration(50.0, "steps")
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParametersConfig(Section):
    """Ordered rules `regex -> value` over parameter paths (`Conv_0/kernel`).

    The first matching rule applies, and every parameter must match one.

    Attributes:
      learning_rate: the multipliers of the learning rate.
      layer_decay: a layer's learning rate as a fraction of the next layer's (Clark et al. 2020); it multiplies
        `learning_rate`. None for no decay.
      frozen: 1 for parameters that keep their initial values, 0 for trained ones.
    """

    path: ClassVar[str] = "parameters"
    learning_rate: ByPath = _EVERY_PARAMETER
    layer_decay: LayerDecay | None = None
    frozen: ByPath = ((".*", 0.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionConfig(Section):
    """The numeric precision of a run; a policy alone may replace the section: `precision=bfloat16`.

    See docs/precision_and_memory.md.

    Attributes:
      policy: the dtype of matrix multiplications, convolutions and the operations between them: "float32" (or the
        model's own `dtype`), "bfloat16", or "float16" with a dynamic loss scale. Parameters, the optimizer's state,
        normalization statistics, logits and losses are always float32.
      matmul: the precision of float32 multiplications (`jax.default_matmul_precision`). "default" is the device's
        fastest one (TF32 on a GPU, one pass of bfloat16 on a TPU), "highest" is full float32.
      loss_scale: the initial loss scale of "float16".
      loss_scale_interval: the number of steps with finite gradients after which the loss scale doubles.
    """

    path: ClassVar[str] = "precision"
    shorthand: ClassVar[str] = "policy"
    policy: Literal["float32", "bfloat16", "float16"] = "float32"
    matmul: Literal["default", "high", "highest", "bfloat16", "tensorfloat32", "float32"] = "default"
    loss_scale: LossScale = 2.0**15
    loss_scale_interval: PositiveInt = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Section):
    """The sharding of a step over devices. Except for `batch_norm`, these settings change only rounding.

    Attributes:
      backend: "jit", one program for all devices, sharded over a mesh; or "pmap", where each device runs the step on
        its share of the batch and gradients are averaged.
      fsdp: whether parameters and optimizer state are sharded over the devices (fully sharded data parallelism,
        Rajbhandari et al. 2020, ZeRO stage 3). A step gathers each parameter at its use.
      fsdp_min_size: the number of elements of the smallest array that `fsdp` shards; smaller arrays are replicated.
      model: the number of devices along the model axis, over which wide layers are sharded by their outputs. The
        batch is sharded over the remaining factor of the device count.
      model_min_width: the number of outputs of the narrowest layer that the model axis shards.
      rules: ordered rules `regex -> axes` over the paths of the state, with priority over the automatic choice. The
        axes are one word per dimension, "data", "model" or "-" for none: {"fc1/kernel": "- model"}. "" replicates an
        array.
      axis_types: the type of the mesh axes: "auto", where the compiler chooses shardings, or "explicit", where a
        sharding is part of an array's type and a mismatch is an error.
      batch_norm: the examples over which batch normalization takes mean and variance: the "global" batch, the share of
        each "device", or groups of this many examples (ghost batches, Hoffer et al. 2017).
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
    """The config of a training run. Two runs of equal configs on one machine end with bitwise equal parameters.

    Attributes:
      model: the model, one of `jaxtrain list models`.
      data: the data set and its path to the model.
      optimizer: the optimizer, one of `jaxtrain list optimizers`.
      train_for: the length of the run: "30 epochs", "64000 steps".
      loss: the loss, one of `jaxtrain list losses`.
      penalties: the penalties added to the loss, from `jaxtrain list penalties`: "l2(1e-4)|l1(1e-5)".
      gradients: the gradient transforms before the optimizer, in order, from `jaxtrain list gradient_transforms`.
      average: the average of parameters that evaluation uses, one of `jaxtrain list averages`; None for no average.
      base_batch_size: the batch size that the learning rate is meant for. The learning rate is multiplied by
        `data.batch_size / base_batch_size` (the linear scaling rule, Goyal et al. 2017). None for no scaling.
      initialize: the data-dependent initialization, one of `jaxtrain list initializations`, such as "whiten_patches",
        which computes initial parameters from training images. None for the model's own initialization.
      seed: the seed of all random draws of the run.
      devices: the number of devices; none for all devices of all hosts.
      parallel: the sharding over the devices.
      steps_per_dispatch: the number of training steps in one call of the compiled program, unless an event is due
        earlier. Results do not depend on it, except that convolutions on a CPU round differently in a loop. None for an
        automatic choice: as many as small steps need; one for convolutions on a CPU, which a loop slows down, and for
        streamed batches.
      parameters: the learning-rate multipliers and frozen parameters, by parameter path.
      evaluation: the settings of evaluations.
      checkpoint: the settings of checkpoints.
      logging: the settings of metrics logging.
      precision: the numeric precision: "bfloat16", "float16".

    Example:
      >>> import jaxtrain
      >>> config = jaxtrain.Config(
      ...     model="mlp(widths=[32])",
      ...     data={"dataset": "digits", "batch_size": 64},
      ...     optimizer="sgd(0.1, momentum=0.9)",
      ...     train_for="5 epochs",
      ... )
      >>> print(config.optimizer)
      sgd(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
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
