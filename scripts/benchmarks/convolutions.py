"""Convolutions on a CPU, forward and both gradients: ours beside XLA's, by shape.

Beside the time by the clock stands that of processors, which other work on the machine disturbs less. `--of` chooses
shapes, `--of "resnet20 stem"`.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import measuring

SHAPES: dict[str, tuple[int, int, int, int, int, int, int]] = {
    # images, side, input and output channels, window, stride, padding
    "lenet5 conv1": (128, 28, 1, 6, 5, 1, 0),
    "lenet5 conv2": (128, 12, 6, 16, 5, 1, 0),
    "resnet20 stem": (128, 32, 3, 16, 3, 1, 1),
    "resnet20 stage 1": (128, 32, 16, 16, 3, 1, 1),
    "resnet20 to stage 2": (128, 32, 16, 32, 3, 2, 1),
    "resnet20 stage 2": (128, 16, 32, 32, 3, 1, 1),
    "resnet20 to stage 3": (128, 16, 32, 64, 3, 2, 1),
    "resnet20 stage 3": (128, 8, 64, 64, 3, 1, 1),
    "resnet20 1x1/2": (128, 32, 16, 32, 1, 2, 0),
    "resnet50 stem": (8, 224, 3, 64, 7, 2, 3),
    "resnet50 3x3x64": (8, 56, 64, 64, 3, 1, 1),
    "resnet50 1x1x64x256": (8, 56, 64, 256, 1, 1, 0),
    "resnet50 3x3x256": (8, 14, 256, 256, 3, 1, 1),
    "resnet50 3x3x512": (8, 7, 512, 512, 3, 1, 1),
    "vgg16 3x3x64": (2, 224, 64, 64, 3, 1, 1),
}


def run(args: argparse.Namespace) -> list[str]:
    """Prints the row of each shape when it is complete: ratios of processor time, those of the clock in brackets."""
    print("| shape | forward | gradient of images | gradient of weights |", "| --- " * 4 + "|", sep="\n", flush=True)
    for name in args.of or SHAPES:
        cells = [_cell(SHAPES[name], kind, args.rounds) for kind in ("forward", "images", "weights")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return []


def _cell(shape: tuple[int, ...], kind: str, rounds: int) -> str:
    if not _is_native(shape, kind):
        return "XLA's"
    clock, processors = measuring.wall_and_cpu_times(
        {which: _repeated(*_program(shape, kind, which)) for which in ("ours", "XLA's")}, rounds
    )
    ratios = [statistics.median(t["XLA's"]) / statistics.median(t["ours"]) for t in (processors, clock)]
    ours = 1000 * statistics.median(processors["ours"])
    return f"{ratios[0]:.2f} ({ratios[1]:.2f}), {ours:.2f} ms"


def _program(shape: tuple[int, ...], kind: str, which: str) -> tuple[Any, tuple[Any, Any]]:
    """A jitted function and its arguments."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from jaxtrain.xla_cpu.convolutions import conv_general_dilated

    n, side, inputs, outputs, window, stride, padding = shape
    draw = np.random.RandomState(0)
    x = jnp.asarray(draw.randn(n, side, side, inputs), jnp.float32)
    w = jnp.asarray(draw.randn(window, window, inputs, outputs), jnp.float32)
    conv = conv_general_dilated if which == "ours" else lax.conv_general_dilated

    def forward(x: Any, w: Any) -> Any:
        return conv(x, w, (stride,) * 2, ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    dy = jnp.ones(jax.eval_shape(forward, x, w).shape)
    if kind == "images":
        return jax.jit(lambda dy, w: jax.linear_transpose(lambda x: forward(x, w), x)(dy)), (dy, w)
    if kind == "weights":
        return jax.jit(lambda x, dy: jax.linear_transpose(lambda w: forward(x, w), w)(dy)), (x, dy)
    return jax.jit(forward), (x, w)


def _repeated(call: Callable[..., Any], arguments: tuple[Any, Any]) -> measuring.Advance:
    import jax

    def advance(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(call(*arguments))

    return advance


def _is_native(shape: tuple[int, ...], kind: str) -> bool:
    call, arguments = _program(shape, kind, "ours")
    return "@jaxtrain_" in call.lower(*arguments).as_text()
