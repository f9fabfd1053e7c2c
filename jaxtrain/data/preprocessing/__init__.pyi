# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.data.preprocessing import base as base
from jaxtrain.data.preprocessing import channels as channels
from jaxtrain.data.preprocessing import linear as linear
from jaxtrain.data.preprocessing import moments as moments
from jaxtrain.data.preprocessing import pixels as pixels
from jaxtrain.data.preprocessing import resizing as resizing
from jaxtrain.data.preprocessing import whitening as whitening
from jaxtrain.data.preprocessing.channels import mean as mean
from jaxtrain.data.preprocessing.channels import mean_std as mean_std
from jaxtrain.data.preprocessing.channels import scale as scale
from jaxtrain.data.preprocessing.pixels import mean_image as mean_image
from jaxtrain.data.preprocessing.pixels import standardize as standardize
from jaxtrain.data.preprocessing.whitening import pca as pca
from jaxtrain.data.preprocessing.whitening import whiten as whiten
from jaxtrain.data.preprocessing.whitening import zca as zca
from jaxtrain.registry import Registry
from typing import Any

PREPROCESSING: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
