"""Optimizers, schedules, losses, penalties, gradient transformations and parameter averages.

Each is a plain function and an entry of a registry. Optimizers, gradient transformations and averages are attributes of
this module, such as `jaxtrain.optim.nesterov(...)`, and can be used in any optax chain. Schedules are in
`jaxtrain.optim.schedules`, losses in `jaxtrain.optim.losses` and `jaxtrain.optim.margin_losses`, penalties in
`jaxtrain.optim.penalties`.
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
