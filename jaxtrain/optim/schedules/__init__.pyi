# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.optim.catalog.schedules import SCHEDULES as SCHEDULES
from jaxtrain.optim.schedules import base as base
from jaxtrain.optim.schedules import decaying as decaying
from jaxtrain.optim.schedules import momentum as momentum
from jaxtrain.optim.schedules import on_plateau as on_plateau
from jaxtrain.optim.schedules import periodic as periodic
from jaxtrain.optim.schedules.base import Schedule as Schedule
from jaxtrain.optim.schedules.base import as_schedule as as_schedule
from jaxtrain.optim.schedules.decaying import constant as constant
from jaxtrain.optim.schedules.decaying import cosine as cosine
from jaxtrain.optim.schedules.decaying import exponential as exponential
from jaxtrain.optim.schedules.decaying import inverse_sqrt as inverse_sqrt
from jaxtrain.optim.schedules.decaying import linear as linear
from jaxtrain.optim.schedules.decaying import multistep as multistep
from jaxtrain.optim.schedules.decaying import per_epoch as per_epoch
from jaxtrain.optim.schedules.decaying import polynomial as polynomial
from jaxtrain.optim.schedules.decaying import step as step
from jaxtrain.optim.schedules.momentum import sutskever_momentum as sutskever_momentum
from jaxtrain.optim.schedules.on_plateau import Plateau as Plateau
from jaxtrain.optim.schedules.on_plateau import observe_plateau as observe_plateau
from jaxtrain.optim.schedules.on_plateau import plateau as plateau
from jaxtrain.optim.schedules.on_plateau import plateau_state as plateau_state
from jaxtrain.optim.schedules.on_plateau import with_plateau as with_plateau
from jaxtrain.optim.schedules.periodic import cyclic as cyclic
from jaxtrain.optim.schedules.periodic import one_cycle as one_cycle
from jaxtrain.optim.schedules.periodic import sgdr as sgdr
from jaxtrain.optim.schedules.periodic import triangular as triangular
from jaxtrain.optim.schedules.periodic import wsd as wsd
from typing import Any

def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
