"""Optimizers, learning-rate schedules and losses; each a plain function, each a row of its table."""

from collections.abc import Callable
from typing import Any

from jaxtrain.tables import Info, Table

OPTIMIZERS = Table(
    "optimizer",
    {
        "sgd": Info(
            factory="jaxtrain.optim.first_order:sgd",
            description="stochastic gradient descent, with momentum (learning rate outside) or Nesterov's",
            paper="Robbins & Monro 1951; Polyak 1964; Nesterov 1983; Sutskever et al. 2013",
        ),
        "adam": Info(
            factory="jaxtrain.optim.first_order:adam",
            description="adaptive moments with bias correction",
            paper="Kingma & Ba 2015, arXiv:1412.6980",
        ),
        "adamw": Info(
            factory="jaxtrain.optim.first_order:adamw",
            description="Adam with decoupled weight decay, multiplied by the learning rate",
            paper="Loshchilov & Hutter 2019, arXiv:1711.05101",
        ),
    },
)

SCHEDULES = Table(
    "schedule",
    {
        "constant": Info(
            factory="jaxtrain.optim.schedules:constant",
            description="one value, after a linear warm-up where wanted",
        ),
        "cosine": Info(
            factory="jaxtrain.optim.schedules:cosine",
            description="linear warm-up, then half a cosine down to the end value",
            paper="Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677",
            supplied=("total",),
        ),
        "step": Info(
            factory="jaxtrain.optim.schedules:step",
            description="multiplied by a factor at each boundary, after a linear warm-up where wanted",
            paper="He et al. 2016 (divided by 10)",
        ),
    },
)

LOSSES = Table(
    "loss",
    {
        "cross_entropy": Info(
            factory="jaxtrain.optim.losses:cross_entropy",
            description="softmax cross-entropy, with label smoothing where wanted",
            paper="smoothing: Szegedy et al. 2016, arXiv:1512.00567",
        ),
    },
)

create, names = OPTIMIZERS.create, OPTIMIZERS.names


def __getattr__(name: str) -> Callable[..., Any]:
    return OPTIMIZERS.attribute(__name__, name)
