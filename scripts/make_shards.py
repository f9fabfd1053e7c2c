"""Writes a data set of `jaxtrain list datasets` as .npz shards, which are streamed without decoding.

`python scripts/make_shards.py "image_folder(size=[64, 64])" OUT --data-dir DIR` reads the pictures in threads, a shard
at a time, and writes OUT/train-00000.npz and so on; train with `data.dataset=shards data.stream=true --data-dir OUT`.
"""

import argparse
from pathlib import Path

from jaxtrain.config import DataConfig
from jaxtrain.data.sources.shards import write_class_names, write_shards
from jaxtrain.data.splits import plan_splits, stream_splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="a data set with its options, as in a config")
    parser.add_argument("folder", type=Path, help="where the shards are written")
    parser.add_argument("--data-dir", type=Path, help="where the data set's files are")
    parser.add_argument("--examples", type=int, default=10_000, help="in a shard, at the most")
    args = parser.parse_args()
    plan = plan_splits(DataConfig(dataset=args.dataset, batch_size=1, stream=True), args.data_dir)
    for name, split in stream_splits(plan, tuple(plan.sizes), seed=0).items():
        paths = write_shards(args.folder, name, split.chunks(args.examples))
        print(f"{name}: {len(split):,} examples in {len(paths)} files, {paths[0]} the first")
    write_class_names(args.folder, plan.dataset.class_names)


if __name__ == "__main__":
    main()
