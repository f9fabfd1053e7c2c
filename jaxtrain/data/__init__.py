"""Data: the registry of data sets; the package holds sources, splits, preprocessing and loaders."""

from jaxtrain.registry import Entry, Registry, publish_factories

_GRAY_28 = {"image_shape": (28, 28, 1), "num_classes": 10, "sizes": {"train": 60_000, "test": 10_000}}

DATASETS = Registry(
    "dataset",
    {
        "digits": Entry(
            "jaxtrain.data.sources.digits:digits",
            "1,797 handwritten digits, 8x8 gray, included in scikit-learn: no download",
            "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
            reference={"image_shape": (8, 8, 1), "num_classes": 10, "sizes": {"train": 1437, "test": 360}},
        ),
        "mnist": Entry(
            "jaxtrain.data.sources.idx:mnist",
            "70,000 handwritten digits, 28x28 gray, from the four IDX files (plain or .gz)",
            "LeCun et al. 1998, Gradient-based learning applied to document recognition",
            supplied=("directory",),
            reference=_GRAY_28,
        ),
        "fashion_mnist": Entry(
            "jaxtrain.data.sources.idx:fashion_mnist",
            "70,000 images of clothing, 28x28 gray, from the four IDX files (plain or .gz)",
            "Xiao et al. 2017, arXiv:1708.07747",
            supplied=("directory",),
            reference=_GRAY_28,
        ),
        "idx": Entry(
            "jaxtrain.data.sources.idx:idx",
            "images and labels in IDX files with the names of MNIST's files",
            "LeCun et al. 1998",
            supplied=("directory",),
        ),
        "cifar10": Entry(
            "jaxtrain.data.sources.cifar:cifar10",
            "60,000 photographs, 32x32 RGB, 10 classes, from binary or pickle batches (.tar.gz, .xz or unpacked)",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            reference={"image_shape": (32, 32, 3), "num_classes": 10, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "cifar100": Entry(
            "jaxtrain.data.sources.cifar:cifar100",
            "60,000 photographs, 32x32 RGB, 100 fine or 20 coarse classes, from the same kinds of files as cifar10",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            reference={"image_shape": (32, 32, 3), "num_classes": 100, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "image_folder": Entry(
            "jaxtrain.data.sources.image_folder:image_folder",
            "image files in folders SPLIT/CLASS/*.jpg, resized and center-cropped at loading",
            supplied=("directory",),
        ),
        "npz": Entry(
            "jaxtrain.data.sources.npz:npz",
            "arrays in one .npz file: train_images, train_labels, test_images, test_labels",
            supplied=("directory",),
        ),
        "shards": Entry(
            "jaxtrain.data.sources.shards:shards",
            "arrays in numbered files, train-00000.npz or .npy pairs, memory-mapped with data.stream",
            supplied=("directory",),
        ),
        "synthetic": Entry(
            "jaxtrain.data.sources.synthetic:synthetic",
            "random images with learnable labels in any shape, for benchmarks and tests",
        ),
        "tfds": Entry(
            "jaxtrain.data.sources.tfds:tfds",
            "image classification data sets prepared by TensorFlow Datasets, read without TensorFlow",
            "tensorflow.org/datasets",
            supplied=("directory",),
        ),
    },
)

create, names = DATASETS.create, DATASETS.names
publish_factories(__name__, DATASETS)
