#!/usr/bin/env python3
"""Prepares a data set of TensorFlow Datasets from its original files, once; training then reads it without TensorFlow.

python scripts/prepare_tfds.py mnist --files data/mnist --directory data/tensorflow_datasets
jaxtrain train ... "data.dataset=tfds(builder='mnist')" --data-dir data
"""

import argparse
import sys
from pathlib import Path

from jaxtrain.data.sources.tfds_prepare import prepare
from jaxtrain.errors import JaxtrainError


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
