"""The memory that `check` estimates for a training step, to what XLA's analysis of the compiled step says.

On one CPU device. First the ratio of all that the step has at once, arguments and results included; in brackets that of
what is neither. Parts are the names of the models; the large ones take minutes to compile.
"""

import argparse
from typing import Any

MODELS = {
    "mlp": ("mlp(widths=[512, 512])", (28, 28, 1), 128),
    "lenet5": ("lenet5", (32, 32, 1), 128),
    "resnet20": ("cifar_resnet(depth=20)", (32, 32, 3), 128),
    "resnet50": ("resnet50", (64, 64, 3), 32),
    "vgg11": ("vgg11", (64, 64, 3), 32),
    "cifar_densenet": ("cifar_densenet(depth=40)", (32, 32, 3), 64),
    "densenet121": ("densenet121", (64, 64, 3), 32),
    "vit": ("vit(patch=8, width=192, depth=6, heads=3, mlp_width=768)", (64, 64, 3), 32),
}
"""Model, shape of an image, batch."""
COLUMNS = {
    "float32": (),
    "bfloat16": ("precision=bfloat16",),
    "float32, four micro-batches": ("data.micro_batch={quarter}",),
    "bfloat16, Adam, four micro-batches": ("precision=bfloat16", "data.micro_batch={quarter}", "optimizer=adam(0.001)"),
}


def run(args: argparse.Namespace) -> list[str]:
    """The table."""
    head = f"| | {' | '.join(COLUMNS)} |"
    print(head, "| --- " * (len(COLUMNS) + 1) + "|", sep="\n", flush=True)
    for name in args.of or MODELS:
        model, shape, batch = MODELS[name]
        cells = [_ratios(model, shape, batch, [x.format(quarter=batch // 4) for x in c]) for c in COLUMNS.values()]
        print(f"| {name}, {shape[0]}x{shape[1]}, batch {batch} | {' | '.join(cells)} |", flush=True)
    return []


def _ratios(model: str, shape: tuple[int, int, int], batch: int, overrides: list[str]) -> str:
    from jaxtrain.analysis.check import examine
    from jaxtrain.config import Config, apply_overrides
    from jaxtrain.data.splits import fit_normalization, load_splits
    from jaxtrain.run.compiled_run import make_tools
    from jaxtrain.training.plan import make_plan
    from jaxtrain.training.streamed import place_splits

    height, width, channels = shape
    examples = f"train_examples={2 * batch}, test_examples=8"
    dataset = f"synthetic(height={height}, width={width}, channels={channels}, num_classes=10, {examples})"
    settings: dict[str, Any] = {
        "model": model,
        "data": {"dataset": dataset, "batch_size": batch, "normalize": "scale"},
        "optimizer": "sgd(0.01, momentum=0.9)",
        "train_for": "1 epoch",
        "devices": 1,
    }
    plan = make_plan(apply_overrides(Config(**settings), overrides))
    data = load_splits(plan.splits, ("train",), 0)
    tools = make_tools(plan, fit_normalization(plan.splits, data["train"]), place_splits(plan, data))
    found = tools.lowered(plan.abstract).compile().memory_analysis()
    allocated = found.temp_size_in_bytes
    others = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    estimate = examine(plan).temporary_bytes
    return f"{(estimate + others) / (allocated + others):.2f} ({estimate / allocated:.2f})"
