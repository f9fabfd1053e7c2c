"""Optimizers, schedules, losses, penalties, transforms of gradients and averages of parameters.

Each is a plain function and a row of its table. Optimizers, transforms and averages are at hand here, as
`jaxtrain.optim.nesterov(...)`, for any optax chain; schedules in `jaxtrain.optim.schedules`, losses in
`jaxtrain.optim.losses` and so on.
"""

from collections.abc import Callable
from typing import Any

from jaxtrain.optim.catalog.losses import LOSSES as LOSSES
from jaxtrain.optim.catalog.losses import PENALTIES as PENALTIES
from jaxtrain.optim.catalog.optimizers import OPTIMIZERS as OPTIMIZERS
from jaxtrain.optim.catalog.schedules import SCHEDULES as SCHEDULES
from jaxtrain.optim.catalog.transforms import AVERAGES as AVERAGES
from jaxtrain.optim.catalog.transforms import GRADIENT_TRANSFORMS as GRADIENT_TRANSFORMS

create, names = OPTIMIZERS.create, OPTIMIZERS.names


def __getattr__(name: str) -> Callable[..., Any]:
    for table in (OPTIMIZERS, GRADIENT_TRANSFORMS, AVERAGES):
        if name in table:
            return table[name].load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
