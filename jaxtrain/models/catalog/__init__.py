"""The catalog of models: an entry with all options for each family, and one for each published variant.

The reference figures of an entry are the input shape, the number of classes, the parameters and the multiply-adds. The
multiply-adds count convolutions, dense layers and attention for one image. A test compares every model with these
figures. The key "published" holds the published errors, if there are any.
"""

import dataclasses

from jaxtrain.models.catalog.classic import EARLY_IMAGENET, FRACTIONAL, PERCEPTRONS_AND_LENETS, SPEEDRUN, VGGS
from jaxtrain.models.catalog.dense import DENSENETS, FRACTALNETS, VITS
from jaxtrain.models.catalog.residual import CIFAR_RESNETS, PREACT_RESNETS, RESNETS
from jaxtrain.models.published import PUBLISHED
from jaxtrain.registry import Entry, Registry

_ROWS = {
    **PERCEPTRONS_AND_LENETS,
    **FRACTIONAL,
    **EARLY_IMAGENET,
    **VGGS,
    **RESNETS,
    **CIFAR_RESNETS,
    **PREACT_RESNETS,
    **DENSENETS,
    **FRACTALNETS,
    **VITS,
    **SPEEDRUN,
}


def _add_published_errors(name: str, info: Entry) -> Entry:
    if name not in PUBLISHED:
        return info
    return dataclasses.replace(info, reference={**info.reference, "published": PUBLISHED[name]})


MODELS = Registry("model", {name: _add_published_errors(name, info) for name, info in _ROWS.items()})
