#!/usr/bin/env python3
"""Benchmarks side by side: contenders in turns, ratios first, then medians and spreads.

python scripts/bench.py overhead frameworks --rounds 7
python scripts/bench.py --list
"""

import argparse
import importlib
from pathlib import Path

NAMES = (
    *("overhead", "frameworks", "scaling", "convolutions", "steps", "optimizers"),
    *("pictures", "stored", "augmentation", "startup", "epoch", "checkpoints", "freed_memory"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each contender, after one to warm up")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a measurement of speed takes, about")
    parser.add_argument("--list", action="store_true", help="say what each measures")
    parser.add_argument("--only", nargs="+", metavar=("BENCHMARK", "CONTENDER"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--of", nargs="+", default=[], metavar="PART", help="parts of a benchmark, as its list names them"
    )
    parser.add_argument("--without", nargs="+", default=[], metavar="CONTENDER", help="frameworks: leave these out")
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures: the JPEGs below it")
    parser.add_argument("--data-dir", default="data", metavar="DIR", help="epoch: in its folder mnist are the files")
    args = parser.parse_args()
    if args.only:
        benchmark, contender, *settings = args.only
        options = dict(setting.split("=", 1) for setting in settings)
        print(importlib.import_module(f"benchmarks.{benchmark}").measure(contender, **options))
        return
    if args.list or not args.names:
        for name in NAMES:
            print(f"{name:12} {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}")
        return
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    for name in args.names:
        print(f"## {name}\n", flush=True)
        print("\n".join(importlib.import_module(f"benchmarks.{name}").run(args)), flush=True)


if __name__ == "__main__":
    main()
