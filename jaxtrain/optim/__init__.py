"""Optimizers, schedules, losses, penalties, transforms of gradients and averages of parameters.

Each is a plain function and a row of its table. Optimizers, transforms and averages are at hand here, as
`jaxtrain.optim.nesterov(...)`, for any optax chain; schedules in `jaxtrain.optim.schedules`, losses in
`jaxtrain.optim.losses` and so on.
"""

from jaxtrain.optim.catalog.losses import LOSSES as LOSSES
from jaxtrain.optim.catalog.losses import PENALTIES as PENALTIES
from jaxtrain.optim.catalog.optimizers import OPTIMIZERS as OPTIMIZERS
from jaxtrain.optim.catalog.schedules import SCHEDULES as SCHEDULES
from jaxtrain.optim.catalog.transforms import AVERAGES as AVERAGES
from jaxtrain.optim.catalog.transforms import GRADIENT_TRANSFORMS as GRADIENT_TRANSFORMS
from jaxtrain.registry import publish_factories

create, names = OPTIMIZERS.create, OPTIMIZERS.names
publish_factories(__name__, OPTIMIZERS, GRADIENT_TRANSFORMS, AVERAGES)
