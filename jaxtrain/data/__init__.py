"""Data: sources with random access, the split into training and validation, and the loader inside the step."""

from jaxtrain.registry import Info, Table, publish_factories

_GREY_28 = {"image_shape": (28, 28, 1), "num_classes": 10, "sizes": {"train": 60_000, "test": 10_000}}

DATASETS = Table(
    "dataset",
    {
        "digits": Info(
            "jaxtrain.data.sources.digits:digits",
            "1,797 handwritten digits, 8x8 grey, embedded in scikit-learn: nothing to download",
            "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
            facts={"image_shape": (8, 8, 1), "num_classes": 10, "sizes": {"train": 1437, "test": 360}},
        ),
        "mnist": Info(
            "jaxtrain.data.sources.idx:mnist",
            "70,000 handwritten digits, 28x28 grey, from the four IDX files (plain or .gz)",
            "LeCun et al. 1998, Gradient-based learning applied to document recognition",
            supplied=("directory",),
            facts=_GREY_28,
        ),
        "fashion_mnist": Info(
            "jaxtrain.data.sources.idx:fashion_mnist",
            "70,000 pictures of clothing, 28x28 grey, from the four IDX files (plain or .gz)",
            "Xiao et al. 2017, arXiv:1708.07747",
            supplied=("directory",),
            facts=_GREY_28,
        ),
        "idx": Info(
            "jaxtrain.data.sources.idx:idx",
            "any images and labels in the IDX format, named as MNIST's files are",
            "LeCun et al. 1998",
            supplied=("directory",),
        ),
        "cifar10": Info(
            "jaxtrain.data.sources.cifar:cifar10",
            "60,000 photographs, 32x32 RGB, 10 classes; binary or pickle batches, .tar.gz, .xz or unpacked",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            facts={"image_shape": (32, 32, 3), "num_classes": 10, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "cifar100": Info(
            "jaxtrain.data.sources.cifar:cifar100",
            "60,000 photographs, 32x32 RGB, 100 fine or 20 coarse classes; the forms that cifar10 takes",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            facts={"image_shape": (32, 32, 3), "num_classes": 100, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "image_folder": Info(
            "jaxtrain.data.sources.image_folder:image_folder",
            "a folder of images by class: SPLIT/CLASS/*.jpg, resized and center-cropped when loaded",
            supplied=("directory",),
        ),
        "npz": Info(
            "jaxtrain.data.sources.npz:npz",
            "arrays in one .npz file: train_images, train_labels, test_images, test_labels",
            supplied=("directory",),
        ),
        "shards": Info(
            "jaxtrain.data.sources.shards:shards",
            "arrays in numbered files: train-00000.npz or .npy pairs; mapped, not loaded, when streamed",
            supplied=("directory",),
        ),
        "synthetic": Info(
            "jaxtrain.data.sources.synthetic:synthetic",
            "random images with learnable labels, shaped like any data set: for benchmarks and trials",
        ),
        "tfds": Info(
            "jaxtrain.data.sources.tfds:tfds",
            "any prepared data set of TensorFlow Datasets with image and label, read without TensorFlow",
            "tensorflow.org/datasets",
            supplied=("directory",),
        ),
    },
)

create, names = DATASETS.create, DATASETS.names
publish_factories(__name__, DATASETS)
