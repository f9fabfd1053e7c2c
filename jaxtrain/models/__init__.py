"""Models: Linen modules `(images f32[N, H, W, C], *, train) -> logits f32[N, classes]`, one file a family."""

from jaxtrain.models.catalog import MODELS
from jaxtrain.registry import publish_factories

__all__ = ["MODELS", "create", "names"]

create, names = MODELS.create, MODELS.names
publish_factories(__name__, MODELS)
