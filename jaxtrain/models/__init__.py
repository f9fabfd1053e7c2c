"""Models: Linen modules `(images f32[N, H, W, C], *, train) -> logits f32[N, classes]`, one file per family.

Every name in the catalog is an attribute of this package, such as `jaxtrain.models.resnet50(num_classes=10)`.
"""

from jaxtrain.models.catalog import MODELS
from jaxtrain.registry import publish_factories

__all__ = ["MODELS", "create", "names"]

create, names = MODELS.create, MODELS.names
publish_factories(__name__, MODELS)
