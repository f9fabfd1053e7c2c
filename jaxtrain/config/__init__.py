"""Configs of runs: sections, specs of components, durations, overrides, loading and dumping."""

from jaxtrain.config.dump import difference, digest, dumps, flatten, loads
from jaxtrain.config.duration import Clock, Duration
from jaxtrain.config.load import config_name, find_config, load_config, shipped
from jaxtrain.config.overrides import apply_overrides
from jaxtrain.config.schema import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    ParametersConfig,
)
from jaxtrain.config.spec import (
    AugmentationSpec,
    AverageSpec,
    DatasetSpec,
    GradientTransformSpec,
    HostAugmentationSpec,
    LossSpec,
    MixingSpec,
    ModelSpec,
    OptimizerSpec,
    PenaltySpec,
    PreprocessingSpec,
    ScheduleSpec,
    Spec,
    ViewsSpec,
)

__all__ = [
    "AugmentationSpec",
    "AverageSpec",
    "CheckpointConfig",
    "Clock",
    "Config",
    "DataConfig",
    "DatasetSpec",
    "Duration",
    "EvaluationConfig",
    "GradientTransformSpec",
    "HostAugmentationSpec",
    "LoggingConfig",
    "LossSpec",
    "MixingSpec",
    "ModelSpec",
    "OptimizerSpec",
    "ParametersConfig",
    "PenaltySpec",
    "PreprocessingSpec",
    "ScheduleSpec",
    "Spec",
    "ViewsSpec",
    "apply_overrides",
    "config_name",
    "difference",
    "digest",
    "dumps",
    "find_config",
    "flatten",
    "load_config",
    "loads",
    "shipped",
]
