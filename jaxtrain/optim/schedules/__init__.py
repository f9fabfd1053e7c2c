"""Schedules of the learning rate and the momentum: functions `step -> number`."""

from jaxtrain.optim.schedules.base import Schedule, as_schedule
from jaxtrain.optim.schedules.decaying import (
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    linear,
    multistep,
    per_epoch,
    polynomial,
    step,
)
from jaxtrain.optim.schedules.momentum import sutskever_momentum
from jaxtrain.optim.schedules.on_plateau import Plateau, observe_plateau, plateau, plateau_state, with_plateau
from jaxtrain.optim.schedules.periodic import cyclic, one_cycle, sgdr, triangular, wsd

__all__ = [
    "Plateau",
    "Schedule",
    "as_schedule",
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "inverse_sqrt",
    "linear",
    "multistep",
    "observe_plateau",
    "one_cycle",
    "per_epoch",
    "plateau",
    "plateau_state",
    "polynomial",
    "sgdr",
    "step",
    "sutskever_momentum",
    "triangular",
    "with_plateau",
    "wsd",
]
