"""Layers: what the models are made of beyond flax's own; initializations that look at a batch; averages over draws.

Initializations are functions `(model, key, batch, ...) -> variables`, for any Linen module `(images, *, train)`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtrain.nn.init.between_layer import between_layers as between_layers
    from jaxtrain.nn.init.fixup import fixup as fixup
    from jaxtrain.nn.init.lsuv import lsuv as lsuv
    from jaxtrain.nn.init.within_layer import within_layer as within_layer
    from jaxtrain.nn.marginalization import draw_outputs as draw_outputs
    from jaxtrain.nn.marginalization import marginalize as marginalize

__all__ = ["between_layers", "draw_outputs", "fixup", "lsuv", "marginalize", "within_layer"]

_HOMES = {
    "between_layers": "jaxtrain.nn.init.between_layer",
    "draw_outputs": "jaxtrain.nn.marginalization",
    "fixup": "jaxtrain.nn.init.fixup",
    "lsuv": "jaxtrain.nn.init.lsuv",
    "marginalize": "jaxtrain.nn.marginalization",
    "within_layer": "jaxtrain.nn.init.within_layer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
