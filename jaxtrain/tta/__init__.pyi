# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.registry import Registry
from jaxtrain.tta import base as base
from jaxtrain.tta import crops as crops
from jaxtrain.tta import drawn as drawn
from jaxtrain.tta import for_run as for_run
from jaxtrain.tta import googlenet as googlenet
from jaxtrain.tta import scales as scales
from jaxtrain.tta.crops import flips as flips
from jaxtrain.tta.crops import shifted_flips as shifted_flips
from jaxtrain.tta.crops import ten_crop as ten_crop
from jaxtrain.tta.drawn import augmented as augmented
from jaxtrain.tta.drawn import draws as draws
from jaxtrain.tta.googlenet import googlenet_crops as googlenet_crops
from jaxtrain.tta.scales import dense as dense
from jaxtrain.tta.scales import multi_scale as multi_scale
from typing import Any

TTA: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
