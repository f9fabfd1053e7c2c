"""The table of models. A family has a row with all of its options, and one for each published variant.

`facts` are the published input, the number of classes, parameters and multiply-adds (those of convolutions, dense
layers and attention for one image); a test holds every row to them. `published` among them are errors, where there are
any.
"""

import dataclasses

from jaxtrain.models.catalog.classic import FIRST, FRACTIONAL, SMALL, SPEEDRUN, VGGS
from jaxtrain.models.catalog.dense import DENSENETS, FRACTALNETS, VITS
from jaxtrain.models.catalog.residual import CIFAR_RESNETS, PREACT_RESNETS, RESNETS
from jaxtrain.models.published import PUBLISHED
from jaxtrain.registry import Info, Table

_ROWS = {
    **SMALL,
    **FRACTIONAL,
    **FIRST,
    **VGGS,
    **RESNETS,
    **CIFAR_RESNETS,
    **PREACT_RESNETS,
    **DENSENETS,
    **FRACTALNETS,
    **VITS,
    **SPEEDRUN,
}


def _with_errors(name: str, info: Info) -> Info:
    if name not in PUBLISHED:
        return info
    return dataclasses.replace(info, facts={**info.facts, "published": PUBLISHED[name]})


MODELS = Table("model", {name: _with_errors(name, info) for name, info in _ROWS.items()})
