#!/usr/bin/env python3
"""List jaxtrain's own files whose functions run while the first training step is traced.

What counts is all that runs inside the compiled function that the loop calls: loading the batch, augmentation, model,
loss, optimizer, metrics. What comes before (the plan, the data) does not count, nor do files that are only imported.
Functions that run only while the trace is lowered to XLA are in a list of their own, and not in the number.

jax keeps the traces of inner functions, and checking a config traces the step already; functions of ours keep results
too. So every cache of jax (`jax.clear_caches`) and every `functools.cache` of our modules is emptied first, and the
lists are those of a process that never saw the step.

python scripts/trace_step.py digits_mlp 'optimizer=sgd(0.1)'
python scripts/trace_step.py CONFIG [PATH=VALUE ...] [--data-dir DIR]
"""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax

import jaxtrain
from jaxtrain.config import Config, load_config

PACKAGE = Path(jaxtrain.__file__).parent

Functions = dict[str, set[str]]
"""File, relative to the folder that holds the package -> names of its functions that ran."""


def prepare_step(config: Config, data_dir: Path | None) -> Callable[[], Any]:
    """Return a function that traces the program of the training loop for the first step.

    Only this function knows how the parts of a run are put together.
    """
    from jaxtrain.data.splits import fit_normalization, read_splits
    from jaxtrain.run.compiled_run import compile_run
    from jaxtrain.training.plan import add_training_colors, make_plan

    plan = make_plan(config, data_dir)
    splits = read_splits(plan.splits, ("train",), config.seed)
    plan = add_training_colors(plan, splits["train"])
    run = compile_run(plan, fit_normalization(plan.splits, splits["train"]), splits)
    count = () if run.multi_step is None else (run.multi_step.count(1),)
    given = (plan.abstract, run.empty(), run.order.order(0), run.batches(0), *count)
    program = run.program
    if not hasattr(program, "trace"):
        sys.exit(
            "the step of pmap and of explicit axes cannot be traced by itself; use parallel.backend=jit and auto axes"
        )
    return lambda: program.trace(*given)


def clear_caches() -> None:
    """Empty the caches of jax and those of our modules' functions, so that every function runs again."""
    jax.clear_caches()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "jaxtrain":
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def record(call: Callable[[], Any]) -> tuple[Functions, Any]:
    """Return our functions that run during `call`, by file, and what `call` returns."""
    seen: Functions = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED:  # bodies of modules and classes are imports
            return
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE):
            seen.setdefault(path.relative_to(PACKAGE.parent).as_posix(), set()).add(code.co_qualname)

    sys.setprofile(note)
    try:
        result = call()
    finally:
        sys.setprofile(None)
    return seen, result


def describe(functions: Functions) -> list[str]:
    """Return a line for each file: its path and the names of its functions, without those around them."""
    width = max(map(len, functions), default=0)
    return [
        f"{path:{width}}  {', '.join(sorted({name.rpartition('<locals>.')[2] for name in functions[path]}))}"
        for path in sorted(functions)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG", help="a config file or the name of a shipped recipe")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    parser.add_argument("--data-dir", type=Path, help="where data files are")
    args = parser.parse_args()
    try:
        trace = prepare_step(load_config(args.config, args.overrides), args.data_dir)
    except jaxtrain.JaxtrainError as error:
        sys.exit(f"trace_step: {error}")
    clear_caches()
    traced, stage = record(trace)
    lowered, _ = record(stage.lower)
    print(f"{len(traced)} files while the step is traced:")
    print("\n".join(describe(traced)))
    if more := {path: names for path, names in lowered.items() if path not in traced}:
        print(f"\n{len(more)} more while it is lowered:")
        print("\n".join(describe(more)))


if __name__ == "__main__":
    main()
