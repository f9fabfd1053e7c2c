"""Blocks that are computed once more for their gradient, and what of them is kept all the same."""

from typing import Any, Literal

from flax import linen as nn

Remat = bool | Literal["full", "dots", "convs"]
"""False keeps all that a gradient needs; True or "full" nothing but a block's input; "dots" also the results of matrix
products, "convs" of those and of convolutions, so that what is made again is elementwise and cheap."""

_KEPT = {"dots": {"dot_general"}, "convs": {"dot_general", "conv_general_dilated"}}


def rematerialized(module: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """`module`, a block of a model, made again for its gradient as `remat` says."""
    if remat is False:
        return module
    if remat is True or remat == "full":
        return nn.remat(module)
    kept = _KEPT[remat]

    def keeps(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in kept

    return nn.remat(module, policy=keeps)
