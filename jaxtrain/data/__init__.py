"""Data: sources with random access, the split into training and validation, and the loader inside the step."""

from jaxtrain.registry import Info, Table, publish_factories

_GREY_28 = {"image_shape": (28, 28, 1), "num_classes": 10, "sizes": {"train": 60_000, "test": 10_000}}

DATASETS = Table(
    "dataset",
    {
        "digits": Info(
            factory="jaxtrain.data.sources.digits:digits",
            description="1,797 handwritten digits, 8x8 grey, embedded in scikit-learn: nothing to download",
            paper="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
            facts={"image_shape": (8, 8, 1), "num_classes": 10, "sizes": {"train": 1437, "test": 360}},
        ),
        "mnist": Info(
            factory="jaxtrain.data.sources.idx:mnist",
            description="70,000 handwritten digits, 28x28 grey, from the four IDX files (plain or .gz)",
            paper="LeCun et al. 1998, Gradient-based learning applied to document recognition",
            supplied=("directory",),
            facts=_GREY_28,
        ),
        "fashion_mnist": Info(
            factory="jaxtrain.data.sources.idx:fashion_mnist",
            description="70,000 pictures of clothing, 28x28 grey, from the four IDX files (plain or .gz)",
            paper="Xiao et al. 2017, arXiv:1708.07747",
            supplied=("directory",),
            facts=_GREY_28,
        ),
        "idx": Info(
            factory="jaxtrain.data.sources.idx:idx",
            description="any images and labels in the IDX format, named as MNIST's files are",
            paper="LeCun et al. 1998",
            supplied=("directory",),
        ),
        "cifar10": Info(
            factory="jaxtrain.data.sources.cifar:cifar10",
            description="60,000 photographs, 32x32 RGB, 10 classes; binary or pickle batches, .tar.gz, .xz or unpacked",
            paper="Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            facts={"image_shape": (32, 32, 3), "num_classes": 10, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "cifar100": Info(
            factory="jaxtrain.data.sources.cifar:cifar100",
            description="60,000 photographs, 32x32 RGB, 100 fine or 20 coarse classes; the forms that cifar10 takes",
            paper="Krizhevsky 2009, Learning multiple layers of features from tiny images",
            supplied=("directory",),
            facts={"image_shape": (32, 32, 3), "num_classes": 100, "sizes": {"train": 50_000, "test": 10_000}},
        ),
        "image_folder": Info(
            factory="jaxtrain.data.sources.image_folder:image_folder",
            description="a folder of images by class: SPLIT/CLASS/*.jpg, resized and center-cropped when loaded",
            supplied=("directory",),
        ),
        "npz": Info(
            factory="jaxtrain.data.sources.npz:npz",
            description="arrays in one .npz file: train_images, train_labels, test_images, test_labels",
            supplied=("directory",),
        ),
        "shards": Info(
            factory="jaxtrain.data.sources.shards:shards",
            description="arrays in numbered files: train-00000.npz or .npy pairs; mapped, not loaded, when streamed",
            supplied=("directory",),
        ),
        "synthetic": Info(
            factory="jaxtrain.data.sources.synthetic:synthetic",
            description="random images with learnable labels, shaped like any data set: for benchmarks and trials",
        ),
        "tfds": Info(
            factory="jaxtrain.data.sources.tfds:tfds",
            description="any prepared data set of TensorFlow Datasets with image and label, read without TensorFlow",
            paper="tensorflow.org/datasets",
            supplied=("directory",),
        ),
    },
)

create, names = DATASETS.create, DATASETS.names
publish_factories(__name__, DATASETS)
