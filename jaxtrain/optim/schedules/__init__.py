"""Schedules of the learning rate and the momentum: functions `step -> number`, made by the factories of `SCHEDULES`."""

from jaxtrain.optim.catalog.schedules import SCHEDULES as SCHEDULES
from jaxtrain.optim.schedules.base import Schedule as Schedule
from jaxtrain.optim.schedules.base import as_schedule as as_schedule
from jaxtrain.optim.schedules.on_plateau import Plateau as Plateau
from jaxtrain.optim.schedules.on_plateau import observe_plateau as observe_plateau
from jaxtrain.optim.schedules.on_plateau import plateau_state as plateau_state
from jaxtrain.optim.schedules.on_plateau import with_plateau as with_plateau
from jaxtrain.registry import publish_factories

create, names = SCHEDULES.create, SCHEDULES.names
publish_factories(__name__, SCHEDULES)
