"""Logits and gradients of the families that torchvision lacks, against nets written here in plain torch.

A net reads its weights by our names, in torch's layout, and is written from the paper and not from our modules.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.models import MODELS
from jaxtrain.optim.param_rules import path_name
from tests.levels import slow_except
from tests.models.torch_port import to_torch_layout

torch = pytest.importorskip("torch", reason="the oracles are torch nets")
f = torch.nn.functional
CLASSES = 5


class Weights:
    """A model's variables in torch's layout, and the layers that use them; `logits` sees a map of size `flattened`."""

    def __init__(self, variables: Any, flattened: tuple[int, int]):
        self.leaves = {}
        for path, value in jax.tree_util.tree_leaves_with_path(variables):
            _, *rest = path_name(path).split("/")
            dense = rest[-2:] == ["logits", "kernel"]
            found = to_torch_layout(np.asarray(value), flattened if dense else None)
            self.leaves["/".join(rest)] = torch.tensor(found, requires_grad=True)

    def conv(self, x: Any, name: str, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        bias = self.leaves.get(f"{name}/bias")
        return f.conv2d(x, self.leaves[f"{name}/kernel"], bias, stride, padding, groups=groups)

    def dense(self, x: Any, name: str) -> Any:
        return f.linear(x, self.leaves[f"{name}/kernel"], self.leaves[f"{name}/bias"])

    def norm(self, x: Any, name: str) -> Any:
        mean, var, scale, bias = (self.leaves[f"{name}/{k}"] for k in ("mean", "var", "scale", "bias"))
        return f.batch_norm(x, mean.detach(), var.detach(), scale, bias, eps=1e-5)


def alexnet(groups: int) -> Callable[[Weights, Any], Any]:
    def net(w: Weights, x: Any) -> Any:
        lrn = torch.nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
        x = f.max_pool2d(lrn(f.relu(w.conv(x, "conv1", stride=4))), 3, 2)
        x = f.max_pool2d(lrn(f.relu(w.conv(x, "conv2", padding=2, groups=groups))), 3, 2)
        x = f.relu(w.conv(x, "conv3", padding=1))
        x = f.relu(w.conv(x, "conv4", padding=1, groups=groups))
        x = f.max_pool2d(f.relu(w.conv(x, "conv5", padding=1, groups=groups)), 3, 2).flatten(1)
        x = f.relu(w.dense(f.relu(w.dense(x, "fc1")), "fc2"))
        return w.dense(x, "logits")

    return net


def googlenet(w: Weights, x: Any) -> Any:
    lrn = torch.nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)

    def down(x: Any) -> Any:
        return f.max_pool2d(x, 3, 2, ceil_mode=True)

    def inception(x: Any, name: str) -> Any:
        def conv(x: Any, layer: str, padding: int = 0) -> Any:
            return f.relu(w.conv(x, f"inception_{name}/{layer}", padding=padding))

        return torch.cat(
            [
                conv(x, "conv1x1"),
                conv(conv(x, "conv3x3_reduce"), "conv3x3", 1),
                conv(conv(x, "conv5x5_reduce"), "conv5x5", 2),
                conv(f.max_pool2d(x, 3, 1, 1), "pool_conv"),
            ],
            1,
        )

    x = lrn(down(f.relu(w.conv(x, "conv1", stride=2, padding=3))))
    x = down(lrn(f.relu(w.conv(f.relu(w.conv(x, "conv2_reduce")), "conv2", padding=1))))
    x = down(inception(inception(x, "3a"), "3b"))
    for name in ("4a", "4b", "4c", "4d", "4e"):
        x = inception(x, name)
    x = inception(inception(down(x), "5a"), "5b")
    return w.dense(x.mean((2, 3)), "logits")


def cifar_resnet(option: str, blocks: int) -> Callable[[Weights, Any], Any]:
    def net(w: Weights, x: Any) -> Any:
        x = f.relu(w.norm(w.conv(x, "conv1", padding=1), "norm1"))
        for stage in (1, 2, 3):
            for block in range(1, blocks + 1):
                name = f"stage{stage}_block{block}"
                stride = 2 if stage > 1 and block == 1 else 1
                y = f.relu(w.norm(w.conv(x, f"{name}/conv1", stride, 1), f"{name}/norm1"))
                y = w.norm(w.conv(y, f"{name}/conv2", 1, 1), f"{name}/norm2")
                if stride == 2 and option == "A":
                    x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
                elif stride == 2 and option == "B":
                    x = w.norm(w.conv(x, f"{name}/shortcut", 2), f"{name}/shortcut_norm")
                x = f.relu(y if option == "none" else x + y)
        return w.dense(x.mean((2, 3)), "logits")

    return net


def wide_resnet(blocks: int) -> Callable[[Weights, Any], Any]:
    def net(w: Weights, x: Any) -> Any:
        x = w.conv(x, "conv1", padding=1)
        for stage in (1, 2, 3):
            for block in range(1, blocks + 1):
                name = f"stage{stage}_block{block}"
                stride = 2 if stage > 1 and block == 1 else 1
                active = f.relu(w.norm(x, f"{name}/norm1"))
                y = w.conv(active, f"{name}/conv1", stride, 1)
                y = w.conv(f.relu(w.norm(y, f"{name}/norm2")), f"{name}/conv2", 1, 1)
                x = y + (w.conv(active, f"{name}/shortcut", stride) if block == 1 else x)
        return w.dense(f.relu(w.norm(x, "norm")).mean((2, 3)), "logits")

    return net


def fractal(w: Weights, x: Any) -> Any:
    """Apply the expansion rule: f_1 is a convolution, f_{C+1} the join of f_C(f_C(z)) and a convolution of z."""

    def expand(x: Any, block: int, columns: int, taken: dict[int, int], last: bool) -> list[Any]:
        """Return the inputs of the join that ends f_columns, deepest first; pooled at the end of a block."""
        column = 3 - columns + 1
        taken[column] = taken.get(column, 0) + 1
        name = f"block{block}_column{column}_conv{taken[column]}"
        own = f.relu(w.norm(w.conv(x, name, padding=1), f"{name}_norm"))
        own = f.max_pool2d(own, 2) if last else own
        if columns == 1:
            return [own]
        half = torch.stack(expand(x, block, columns - 1, taken, False)).mean(0)
        return [*expand(half, block, columns - 1, taken, last), own]

    for block in (1, 2):
        x = torch.stack(expand(x, block, 3, {}, True)).mean(0)
    return w.dense(x.flatten(1), "logits")


CASES: dict[str, tuple[str, dict[str, Any], int, tuple[int, int], Callable[[Weights, Any], Any]]] = {
    "alexnet-two-towers": ("alexnet", {}, 67, (1, 1), alexnet(2)),
    "alexnet-one-tower": ("alexnet_one_tower", {}, 67, (1, 1), alexnet(1)),
    "googlenet": ("googlenet", {"auxiliary": False}, 64, (1, 1), googlenet),
    "cifar-A": ("cifar_resnet", {"depth": 14}, 12, (1, 1), cifar_resnet("A", 2)),
    "cifar-B": ("cifar_resnet", {"depth": 14, "shortcut": "B"}, 12, (1, 1), cifar_resnet("B", 2)),
    "plain": ("cifar_resnet", {"depth": 8, "shortcut": "none"}, 12, (1, 1), cifar_resnet("none", 1)),
    "wrn-16-4": ("wrn_16_4", {}, 8, (1, 1), wide_resnet(2)),
    "fractalnet": ("fractalnet", {"features": (8, 12), "dropout_rates": (0.0, 0.0)}, 8, (2, 2), fractal),
}
"""The row, its options, the side of the images, the size of the map that the logits see, and the net."""


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(CASES, "cifar-A", "fractalnet"))
def test_model_equals_a_net_in_plain_torch(name: str) -> None:
    """In float64: rounding does not decide maxima, and 1e-9 is a match."""
    row, options, side, flattened, net = CASES[name]
    rng = np.random.default_rng(0)
    images, cotangent = rng.normal(size=(2, side, side, 3)), rng.normal(size=(2, CLASSES))
    with jax.enable_x64(True):
        model = MODELS[row].load()(num_classes=CLASSES, dtype="float64", param_dtype="float64", **options)
        abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(images), train=False))
        variables = jax.tree_util.tree_map_with_path(lambda p, s: draw(rng, path_name(p), s.shape), abstract)
        stats = {k: v for k, v in variables.items() if k != "params"}

        def run(params: Any) -> Any:
            logits, back = jax.vjp(lambda p: model.apply({"params": p, **stats}, images, train=False), params)
            return logits, back(jnp.asarray(cotangent))[0]

        # Without optimizations XLA:CPU gives FractalNet, whose logits are right, the wrong gradients.
        logits, grads = jax.jit(run, compiler_options={"xla_backend_optimization_level": 1})(variables["params"])
    weights = Weights(variables, flattened)
    expected = net(weights, torch.tensor(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    expected.backward(torch.tensor(cotangent))
    theirs = {k: v.grad for k, v in weights.leaves.items()}
    for path, grad in Weights({"params": grads}, flattened).leaves.items():
        wanted = theirs[path].numpy()
        np.testing.assert_allclose(grad.detach(), wanted, rtol=1e-7, atol=1e-9 * np.abs(wanted).max(), err_msg=path)


def draw(rng: np.random.Generator, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return random values, none 0 or 1, which could hide an error."""
    if path.endswith(("var", "scale")):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(size=shape) * (0.1 if len(shape) == 1 else np.sqrt(1.5 / np.prod(shape[:-1])))
