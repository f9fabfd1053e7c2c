#!/usr/bin/env python3
"""Prepares a data set of TensorFlow Datasets from its original files, once; training then reads it without TensorFlow.

python scripts/prepare_tfds.py mnist --files data/mnist --directory data/tensorflow_datasets
jaxtrain train ... "data.dataset=tfds(builder='mnist')" --data-dir data
"""

import argparse
import hashlib
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from jaxtrain.data.sources.files import FileSet, Search, describe_error, is_directory, reading
from jaxtrain.errors import DataError, JaxtrainError


def prepare(builder: str, files: Path, directory: Path) -> Path:
    """Prepares `builder` under `directory` as ArrayRecord files and returns their folder; at once if that was done.

    Nothing is downloaded: the files that TensorFlow Datasets would fetch must lie in `files` under their original
    names (`train-images-idx3-ubyte.gz` ... for "mnist" and "fashion_mnist") and have the checksums that it has on
    record.

    Args:
      builder: the data set's name in TensorFlow Datasets.
      files: the folder with the original files, or with a folder named as the data set that holds them.
      directory: where to put the prepared data set. The source `tfds` looks in the run's data directory and in the
        folder `tensorflow_datasets` there.

    Raises:
      DataError: TensorFlow is not installed, the data set or a file is unknown or missing, a checksum differs, or
        the data set is there already in another format.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            "preparing a data set takes TensorFlow, which is not installed: install jaxtrain[prepare]. Reading what "
            "is prepared does without"
        )
    import tensorflow_datasets

    try:
        prepared = tensorflow_datasets.builder(builder, data_dir=directory, file_format="array_record")
        target = Path(prepared.data_dir)
        if not is_directory(target):
            _generate(prepared, _verified(prepared, files))
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        raise DataError(
            f"TensorFlow Datasets knows no data set {builder!r}; www.tensorflow.org/datasets lists those that it knows"
        ) from error
    except (OSError, ValueError) as error:  # no space, no permission; not a name, another format
        raise DataError(f"{builder} cannot be prepared in {directory}: {describe_error(error)}") from error
    return target


def _generate(prepared: Any, source: Path) -> None:
    """Has TensorFlow Datasets write its files from the original ones in `source`."""
    import tensorflow_datasets

    # What it unpacks is named by the file alone, so two data sets must not share the place.
    with tempfile.TemporaryDirectory() as downloads:
        prepared.download_and_prepare(
            download_dir=downloads,
            file_format="array_record",  # its default format has no random access
            download_config=tensorflow_datasets.download.DownloadConfig(
                # From here it takes every file whose name it has on record, after checking it, instead of
                # downloading it.
                manual_dir=source,
                try_download_gcs=False,
                force_checksums_validation=True,
            ),
        )


def _verified(prepared: Any, files: Path) -> Path:
    """The folder that holds every file which TensorFlow Datasets has on record for the data set, each checked."""
    by_name = {info.filename: info for info in (prepared.url_infos or {}).values()}
    if not by_name or None in by_name:
        raise DataError(f"TensorFlow Datasets has no names of original files on record for {prepared.name}")
    names = sorted(by_name)
    if not is_directory(files):
        raise DataError(f"{files} is not a folder; it must hold {', '.join(names)}")
    form = FileSet("original", tuple((name,) for name in names), ", ".join(names))
    found = Search(prepared.name, files, (prepared.name, ""), prepared.info.homepage).find(form)
    for path in found.files:
        with reading(path), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != by_name[path.name].checksum:
            raise DataError(
                f"{path} is not the original file: its sha256 is {digest}, TensorFlow Datasets has "
                f"{by_name[path.name].checksum} on record; get it again from {prepared.info.homepage}"
            )
    return found.files[0].parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builder", help="the data set's name in TensorFlow Datasets, such as mnist or fashion_mnist")
    parser.add_argument(
        "--files", type=Path, required=True, help="folder with the original files, as downloaded (packed)"
    )
    parser.add_argument("--directory", type=Path, required=True, help="where to put the prepared data set")
    arguments = parser.parse_args()
    try:
        print(prepare(arguments.builder, arguments.files, arguments.directory))
    except JaxtrainError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
