"""jaxtrain: config-driven training of image classifiers in JAX, with exact resume.

`import jaxtrain` is light: parts are imported when they are first used.
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
    from jaxtrain.errors import JaxtrainError as JaxtrainError
    from jaxtrain.run.fit import fit as fit
    from jaxtrain.run.result import Result as Result

__version__ = "0.1.0"

__all__ = [
    "Config",
    "JaxtrainError",
    "Result",
    "__version__",
    "augment",
    "config",
    "data",
    "fit",
    "load_config",
    "models",
    "nn",
    "optim",
]

_HOMES = {
    "Config": "jaxtrain.config",
    "JaxtrainError": "jaxtrain.errors",
    "Result": "jaxtrain.run.result",
    "fit": "jaxtrain.run.fit",
    "load_config": "jaxtrain.config",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
