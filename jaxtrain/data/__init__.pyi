# Written by scripts/write_stubs.py: what the package offers, for editors and type checkers.
from jaxtrain.data import dataset as dataset
from jaxtrain.data import decode_chains as decode_chains
from jaxtrain.data import device_stream as device_stream
from jaxtrain.data import encoded as encoded
from jaxtrain.data import epoch_shuffle as epoch_shuffle
from jaxtrain.data import example_order as example_order
from jaxtrain.data import loader as loader
from jaxtrain.data import memory as memory
from jaxtrain.data import prefetch as prefetch
from jaxtrain.data import preprocessing as preprocessing
from jaxtrain.data import source as source
from jaxtrain.data import sources as sources
from jaxtrain.data import splits as splits
from jaxtrain.data import stored as stored
from jaxtrain.data import streaming as streaming
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
from jaxtrain.registry import Registry
from typing import Any

DATASETS: Registry
def create(name: str, /, **options: Any) -> Any: ...
def names() -> list[str]: ...
