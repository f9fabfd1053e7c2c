"""Models: Linen modules `(images f32[N, H, W, C], *, train) -> logits f32[N, classes]`, one file a family."""

from collections.abc import Callable
from typing import Any

from jaxtrain.models.catalog import MODELS

__all__ = ["MODELS", "create", "names"]

create, names = MODELS.create, MODELS.names


def __getattr__(name: str) -> Callable[..., Any]:
    return MODELS.attribute(__name__, name)
