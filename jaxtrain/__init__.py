"""jaxtrain: config-driven training of image classifiers in JAX, with exact resume.

`import jaxtrain` is light: each public name is imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtrain import augment as augment
    from jaxtrain import config as config
    from jaxtrain import data as data
    from jaxtrain import models as models
    from jaxtrain import nn as nn
    from jaxtrain import optim as optim
    from jaxtrain.config import Config as Config
    from jaxtrain.config import load_config as load_config
    from jaxtrain.data.loader import Batch as Batch
    from jaxtrain.errors import JaxtrainError as JaxtrainError
    from jaxtrain.run.fit import fit as fit
    from jaxtrain.run.result import Result as Result
    from jaxtrain.training.objective import Objective as Objective
    from jaxtrain.training.state import TrainState as TrainState
    from jaxtrain.training.state import init_state as init_state
    from jaxtrain.training.step import make_train_step as make_train_step

__version__ = "0.1.0"

_MODULES = {
    "Config": "jaxtrain.config",
    "JaxtrainError": "jaxtrain.errors",
    "Result": "jaxtrain.run.result",
    "fit": "jaxtrain.run.fit",
    "load_config": "jaxtrain.config",
    "make_train_step": "jaxtrain.training.step",
    "init_state": "jaxtrain.training.state",
    "TrainState": "jaxtrain.training.state",
    "Objective": "jaxtrain.training.objective",
    "Batch": "jaxtrain.data.loader",
}


_PACKAGES = ("augment", "config", "data", "models", "nn", "optim")
__all__ = ["__version__", *_MODULES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
