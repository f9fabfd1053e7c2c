# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.augment.decode import chain as chain
from jaxtrain.augment.decode import crops as crops
from jaxtrain.augment.decode import sizes as sizes
from jaxtrain.augment.decode import window as window
from jaxtrain.augment.decode.crops import center_crop as center_crop
from jaxtrain.augment.decode.crops import random_crop as random_crop
from jaxtrain.augment.decode.crops import random_resized_crop as random_resized_crop
from jaxtrain.augment.decode.sizes import fit as fit
from jaxtrain.augment.decode.sizes import flip_lr as flip_lr
from jaxtrain.augment.decode.sizes import resize as resize
from jaxtrain.augment.decode.sizes import resize_short as resize_short
from jaxtrain.registry import Registry
from typing import Any

DECODE_TRANSFORMS: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
