# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.augment.mixing import base as base
from jaxtrain.augment.mixing import images as images
from jaxtrain.augment.mixing import labels as labels
from jaxtrain.augment.mixing.images import cutmix as cutmix
from jaxtrain.augment.mixing.images import mixup as mixup
from jaxtrain.augment.mixing.images import mixup_or_cutmix as mixup_or_cutmix
from jaxtrain.augment.mixing.labels import label_smoothing as label_smoothing
from jaxtrain.registry import Registry
from typing import Any

MIXINGS: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
