# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.data.sources.cifar import cifar10 as cifar10
from jaxtrain.data.sources.cifar import cifar100 as cifar100
from jaxtrain.data.sources.digits import digits as digits
from jaxtrain.data.sources.idx import fashion_mnist as fashion_mnist
from jaxtrain.data.sources.idx import idx as idx
from jaxtrain.data.sources.idx import mnist as mnist
from jaxtrain.data.sources.image_folder import image_folder as image_folder
from jaxtrain.data.sources.npz import npz as npz
from jaxtrain.data.sources.shards import shards as shards
from jaxtrain.data.sources.synthetic import synthetic as synthetic
from jaxtrain.data.sources.tfds import tfds as tfds
from jaxtrain.registry import Table
from typing import Any

DATASETS: Table
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
