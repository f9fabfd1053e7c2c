"""Data sets prepared by TensorFlow Datasets, read from their ArrayRecord files without TensorFlow."""

import dataclasses
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from jaxtrain.annotations import NonEmpty, PositiveInt
from jaxtrain.data.dataset import Dataset
from jaxtrain.data.encoded import Encoded, EncodedSource
from jaxtrain.data.source import ArraySource
from jaxtrain.data.sources.files import data_directory, describe_error, is_directory, reading
from jaxtrain.data.sources.images import allocate, decode, fill, resize_and_crop
from jaxtrain.data.stored import StoredSource
from jaxtrain.errors import DataError, did_you_mean

_REFUSED = {
    "parquet": "TensorFlow Datasets loses examples when it reads that format",
    "tfrecord": "that format has no random access, and reading it requires TensorFlow",
    "riegeli": "that format has no random access, and reading it requires TensorFlow",
}
_GROUP = 1024  # records fetched in one call
_SMALL = 64 * 64  # pixels
_DAMAGE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def tfds(
    *,
    builder: Annotated[str, NonEmpty()],
    directory: Path | None,
    image_key: str = "image",
    label_key: str = "label",
    size: tuple[PositiveInt, PositiveInt] | None = None,
) -> Dataset:
    """Return a data set that TensorFlow Datasets has prepared as array_record, with one image and one label.

    Its split "train" is the train split. Its split "test", or else "validation", is the test split.

    Args:
      builder: the data set's name in TensorFlow Datasets, such as "mnist", "imagenet_resized/32x32" or "mnist:3.0.1".
      directory: the data directory; prepared data sets are in its folder `tensorflow_datasets` or in it directly.
        None for the default directory of TensorFlow Datasets.
      image_key: the feature with the image: an `Image` or a `Tensor` of uint8.
      label_key: the feature with the label: a `ClassLabel`.
      size: the height and width to which images are scaled and center-cropped; required if their shapes differ. With
        `data.decode` it is ignored for encoded images.

    Raises:
      DataError: the data set is not prepared or has another format, or its features are not an image and a class label.

    Example:
      >>> from jaxtrain.config import DatasetSpec
      >>> print(DatasetSpec("tfds", builder="mnist"))
      tfds(builder='mnist', image_key='image', label_key='label', size=None)
    """
    prepared = _find(builder, directory)
    _check_format(builder, prepared)
    features, splits = prepared.info.features, prepared.info.splits
    image = _image_feature(builder, features, image_key, size)
    num_classes, class_names = _classes(builder, features, label_key)
    if "train" not in splits:
        raise DataError(f"tfds {builder}: there is no split 'train' to train on, only {', '.join(splits)}")
    names = {"train": "train", "test": "test" if "test" in splits else "validation"}
    names = {split: name for split, name in names.items() if name in splits}
    return Dataset(
        name=f"tfds {builder}",
        num_classes=num_classes,
        image_shape=image.shape,
        sizes={split: splits[name].num_examples for split, name in names.items()},
        class_names=class_names,
        read=lambda split: _read(builder, prepared, names[split], image, label_key),
        encoded=(lambda split: _open_encoded(builder, prepared, names[split], image, label_key))
        if image.encoded
        else None,
        stored=lambda split: _open_stored(builder, prepared, names[split], image, label_key),
    )


@dataclasses.dataclass(frozen=True)
class _ImageFeature:
    """The format of stored images and of the images that are read.

    Attributes:
      key: the name of the feature.
      encoded: whether images are stored as PNG or JPEG instead of as arrays.
      shape: the height, width and channels of images as they are read.
      size: the height and width to which images are scaled and cropped; None for no scaling.
    """

    key: str
    encoded: bool
    shape: tuple[int, int, int]
    size: tuple[int, int] | None


def _find(builder: str, directory: Path | None) -> Any:
    """Return the builder of a prepared data set from its files, without the code that prepared it."""
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from tensorflow_datasets.core import DatasetNotFoundError, constants, read_only_builder

    if directory is None:
        roots = [Path(os.path.expanduser(constants.DATA_DIR))]
    else:
        root = data_directory("tfds", directory, f"{builder} as prepared by TensorFlow Datasets")
        roots = [folder for folder in (root / "tensorflow_datasets", root) if is_directory(folder)]
    for root in roots:
        try:
            with reading(root):
                return read_only_builder.builder_from_files(builder, data_dir=os.fspath(root))
        except DatasetNotFoundError:
            continue
        except (ValueError, ParseError) as error:
            raise DataError(f"tfds: builder={builder!r} in {root}: {describe_error(error)}") from error
    name = builder.partition("/")[0].partition(":")[0]
    present = [str(path.parent) for root in roots for path in sorted(root.glob(f"{name}/**/features.json"))]
    raise DataError(
        f"tfds: {builder} is not prepared in {' or '.join(map(str, roots))}"
        + (f", only {', '.join(present)}" if present else "")
        + "; prepare it with scripts/prepare_tfds.py, or with TensorFlow Datasets and file_format='array_record'"
    )


def _check_format(builder: str, prepared: Any) -> None:
    formats = sorted(file_format.value for file_format in prepared.info.available_file_formats())
    if "array_record" not in formats:
        why = next((_REFUSED[name] for name in formats if name in _REFUSED), "only array_record is supported")
        raise DataError(
            f"tfds: {builder} in {prepared.data_dir} is stored as {', '.join(formats) or 'nothing'}: {why}. "
            "Prepare it again in another directory with file_format='array_record'"
        )


def _image_feature(builder: str, features: Mapping[str, Any], key: str, size: tuple[int, int] | None) -> _ImageFeature:
    import tensorflow_datasets

    feature = _feature(builder, features, key, "image_key")
    encoded = isinstance(feature, tensorflow_datasets.features.Image)
    if not encoded and not isinstance(feature, tensorflow_datasets.features.Tensor):
        raise DataError(f"tfds {builder}: feature {key!r} is a {type(feature).__name__}, not an Image or a Tensor")
    shape = tuple(feature.shape) if len(feature.shape) != 2 else (*feature.shape, 1)
    if len(shape) != 3 or feature.np_dtype != np.uint8:
        raise DataError(
            f"tfds {builder}: feature {key!r} is {np.dtype(feature.np_dtype)} of shape {feature.shape}; images must be "
            "uint8 of [H, W, C]"
        )
    height, width, channels = shape[0], shape[1], shape[2] or 3
    if (encoded or size) and channels not in (1, 3, 4):
        raise DataError(
            f"tfds {builder}: feature {key!r} has {channels} channels; only 1, 3 or 4 can be decoded and scaled"
        )
    if size is None and (height is None or width is None):
        raise DataError(
            f"tfds {builder}: the images of {key!r} differ in shape; set data.dataset.size to the height and width "
            "to which they are scaled and cropped"
        )
    height, width = size or (height, width)
    return _ImageFeature(key, encoded, (height, width, channels), size)


def _classes(builder: str, features: Mapping[str, Any], key: str) -> tuple[int, tuple[str, ...]]:
    """Return the number of classes and their names."""
    import tensorflow_datasets

    feature = _feature(builder, features, key, "label_key")
    if not isinstance(feature, tensorflow_datasets.features.ClassLabel) or not feature.num_classes:
        raise DataError(f"tfds {builder}: feature {key!r} is a {type(feature).__name__}; labels must be a ClassLabel")
    return feature.num_classes, tuple(feature.names)


def _feature(builder: str, features: Mapping[str, Any], key: str, option: str) -> Any:
    if key not in features:
        hint = did_you_mean(key, features)
        raise DataError(f"tfds {builder}: there is no feature {key!r}; set data.dataset.{option} to another one{hint}")
    return features[key]


def _records(prepared: Any, split: str, image: _ImageFeature) -> Any:
    """Open the records of a split for random access; encoded images stay encoded.

    This module decodes them, not TensorFlow Datasets: in several threads, and directly to the requested size.
    """
    import tensorflow_datasets

    decoders = {image.key: tensorflow_datasets.decode.SkipDecoding()} if image.encoded else None
    return prepared.as_data_source(split=split, decoders=decoders, file_format="array_record")


def _describe_source(builder: str, prepared: Any, split: str) -> str:
    return f"tfds {builder}, split {split} in {prepared.data_dir},"


def _open_encoded(builder: str, prepared: Any, split: str, image: _ImageFeature, label_key: str) -> EncodedSource:
    where = _describe_source(builder, prepared, split)
    with reading(where, *_DAMAGE):
        source = _records(prepared, split, image)
        count = len(source)

    def read(index: int) -> Encoded:
        with reading(f"{where} example {index},", *_DAMAGE):
            record = source[index]
        return Encoded(record[image.key], int(record[label_key]), f"{where} example {index},")

    return EncodedSource(count, read, image.shape[2], upright=False)


def _open_stored(builder: str, prepared: Any, split: str, image: _ImageFeature, label_key: str) -> StoredSource:
    """Open a split as images that are fetched many at a time; one by one takes 1.5 times as long."""
    where = _describe_source(builder, prepared, split)
    with reading(where, *_DAMAGE):
        source = _records(prepared, split, image)
        count = len(source)

    def fetch(indices: np.ndarray) -> tuple[Any, np.ndarray]:
        with reading(where, *_DAMAGE):
            records = source.__getitems__(indices.tolist())
            return records, np.array([record[label_key] for record in records], np.int32)

    def read(indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        records, labels = fetch(indices)
        for index, record, out in zip(indices, records, images, strict=True):
            out[...] = _to_array(record[image.key], image, f"{where} example {index},")
        return labels

    return StoredSource(count, image.shape, read, lambda indices: fetch(indices)[1])


def _read(builder: str, prepared: Any, split: str, image: _ImageFeature, label_key: str) -> ArraySource:
    # Small images decode so fast that several threads would only wait for the GIL.
    threads = 1 if image.shape[0] * image.shape[1] <= _SMALL else os.cpu_count() or 1
    where = _describe_source(builder, prepared, split)
    with reading(where, *_DAMAGE):
        source = _records(prepared, split, image)
        count = len(source)
        images, labels = allocate(count, image.shape), np.empty(count, np.int32)
        for start in range(0, count, _GROUP):
            indices = range(start, min(start + _GROUP, count))
            records = source.__getitems__(list(indices))
            labels[indices.start : indices.stop] = [record[label_key] for record in records]

            # The defaults bind this iteration's values.
            def read_one(index: int, records: Any = records, start: int = start) -> np.ndarray:
                return _to_array(records[index][image.key], image, f"{where} example {start + index},")

            fill(images[indices.start : indices.stop], read_one, threads)
    return ArraySource(images, labels)


def _to_array(stored: Any, image: _ImageFeature, name: str) -> np.ndarray:
    """Convert a stored image to uint8[H, W, C]."""
    if image.encoded:
        array = decode(io.BytesIO(stored), name, image.shape[2], image.size, upright=False)
    elif image.size is None:
        array = stored.reshape(*stored.shape[:2], -1)
    else:
        array = resize_and_crop(
            Image.fromarray(stored.reshape(stored.shape[:2]) if image.shape[2] == 1 else stored), image.size
        )
    if array.shape != image.shape:
        raise DataError(
            f"{name} is of shape {array.shape}, not {image.shape}; set data.dataset.size to scale all to one size"
        )
    return array
