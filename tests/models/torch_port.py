"""Port of torchvision weights to the names of this package, independent of the package's own port."""

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.models.vggs import WINDOWS
from jaxtrain.optim.param_rules import path_name

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_LIBRARIES: list[Any] = []  # torch forgets an operator's schema with the object that defined it


def torchvision() -> ModuleType:
    """Import torchvision with a torch that lacks its operators; the import needs only their names."""
    torch = pytest.importorskip("torch", reason="the oracle is torchvision")
    if not _LIBRARIES:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    found: ModuleType = pytest.importorskip("torchvision", reason="the oracle is torchvision")
    return found


def resnet_name(module: str) -> str:
    module = re.sub(r"^stage(\d)_block(\d+)/", lambda m: f"layer{m[1]}.{int(m[2]) - 1}.", module)
    module = module.replace("shortcut_norm", "downsample.1").replace("shortcut", "downsample.0")
    return module.replace("norm", "bn").replace("logits", "fc")


def densenet_name(module: str) -> str:
    module = re.sub(r"^block(\d)_layer(\d+)/", r"features.denseblock\1.denselayer\2.", module)
    module = re.sub(r"^transition(\d)_", r"features.transition\1.", module)
    fixed = {"conv1": "features.conv0", "norm1": "features.norm0", "norm": "features.norm5", "logits": "classifier"}
    return fixed.get(module, module)


def vgg_name(configuration: str, batch_norm: bool) -> Callable[[str], str]:
    names = {"fc1": "classifier.0", "fc2": "classifier.3", "logits": "classifier.6"}
    index = 0
    for stage, windows in enumerate(WINDOWS[configuration], 1):
        for i in range(1, len(windows) + 1):
            names[f"stage{stage}_conv{i}"] = f"features.{index}"
            names[f"stage{stage}_norm{i}"] = f"features.{index + 1}"
            index += 3 if batch_norm else 2
        index += 1
    return names.__getitem__


def googlenet_name(module: str) -> str:
    module = re.sub(r"^inception_(\w\w)/", r"inception\1.", module)
    parts = {
        "conv1x1": "branch1",
        "conv3x3_reduce": "branch2.0",
        "conv3x3": "branch2.1",
        "conv5x5_reduce": "branch3.0",
        "conv5x5": "branch3.1",
        "pool_conv": "branch4.1",
        "conv2_reduce": "conv2",
        "conv2": "conv3",
    }
    head, _, last = module.rpartition(".")
    kind = "bn" if last.endswith("_norm") else "conv"
    last = last.removesuffix("_norm")
    if last == "logits":
        return "fc"
    return f"{head}.{parts[last]}.{kind}" if head else f"{parts.get(last, last)}.{kind}"


def vit_name(module: str) -> str:
    module = re.sub(r"^block(\d+)/", lambda m: f"encoder.layers.encoder_layer_{int(m[1]) - 1}.", module)
    module = module.replace(".norm", ".ln_").replace(".fc1", ".mlp.0").replace(".fc2", ".mlp.3")
    fixed = {"patches": "conv_proj", "norm": "encoder.ln", "logits": "heads.head"}
    return fixed.get(module, module)


def vit_leaf(state: Mapping[str, np.ndarray], path: str) -> np.ndarray | None:
    """Return leaves that torch stores differently: tokens, positions, and attention with its joint input projection."""
    plain = {"class_token": "class_token", "positions": "encoder.pos_embedding"}
    if path in plain:
        return state[plain[path]]
    found = re.match(r"block(\d+)/attention/(\w+)/(\w+)$", path)
    if not found:
        return None
    prefix = f"encoder.layers.encoder_layer_{int(found[1]) - 1}.self_attention."
    kind = {"kernel": "weight", "bias": "bias"}[found[3]]
    if found[2] == "out":
        return state[f"{prefix}out_proj.{kind}"].T
    part = np.split(state[f"{prefix}in_proj_{kind}"], 3)[("query", "key", "value").index(found[2])]
    return part.T


def ported(
    abstract: Any,
    state: Mapping[str, np.ndarray],
    name: Callable[[str], str],
    special: Callable[[Mapping[str, np.ndarray], str], np.ndarray | None] = lambda state, path: None,
    flattened: tuple[int, int] = (1, 1),
) -> Any:
    """Return the variables of a model from a torch state; `abstract` is the result of `eval_shape`.

    `flattened` are height and width of the feature map that the first dense layer sees, which torch flattens with its
    channels first.
    """

    def leaf(path: Any, shape: Any) -> jax.Array:
        _, *rest = path_name(path).split("/")  # without the collection
        value = special(state, "/".join(rest))
        if value is None:
            *module, kind = rest
            found = state[f"{name('/'.join(module))}.{LEAVES[kind]}"]
            value = to_jax_layout(found, flattened if module == ["fc1"] else None)
        assert value.size == shape.size, (path_name(path), value.shape, shape.shape)
        return jnp.asarray(value.reshape(shape.shape))

    return jax.tree_util.tree_map_with_path(leaf, abstract)


def to_jax_layout(value: np.ndarray, flattened: tuple[int, int] | None = None) -> np.ndarray:
    """Convert torch's layout to jaxtrain's: OIHW to HWIO, and (out, in) to (in, out)."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2 and flattened:
        h, w = flattened
        return value.reshape(value.shape[0], -1, h, w).transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T


def to_torch_layout(value: np.ndarray, flattened: tuple[int, int] | None = None) -> np.ndarray:
    """Convert jaxtrain's layout to torch's: HWIO to OIHW, and (in, out) to (out, in)."""
    if value.ndim == 4:
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1))
    if value.ndim == 2 and flattened:
        h, w = flattened
        outputs = value.shape[1]
        return np.ascontiguousarray(value.reshape(h, w, -1, outputs).transpose(3, 2, 0, 1).reshape(outputs, -1))
    return np.ascontiguousarray(value.T)


def randomized(torch: Any, model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Set every weight, bias and statistic to a random value, since 0 or 1 could hide an error; return the state."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        shape = tuple(value.shape)
        if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
            drawn = rng.uniform(0.5, 1.5, shape)
        elif len(shape) <= 1:
            drawn = 0.1 * rng.normal(size=shape)
        else:
            drawn = rng.normal(size=shape) * np.sqrt(1.5 / max(np.prod(shape[1:]), 1))
        state[key] = drawn.astype(np.float32)
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    return state
