"""Logits and gradients of the model families that torchvision has, with random weights."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.models import MODELS
from tests.models import torch_port as port

pytestmark = pytest.mark.slow  # smaller ones of most families are in test_weights.py and test_torch_nets.py
CLASSES = 5


@dataclasses.dataclass(frozen=True)
class Case:
    """A registered model, its constructor in torchvision, and the mapping of parameter names."""

    make: Callable[[Any], Any]
    name: Callable[[str], str]
    side: int = 64
    special: Any = lambda state, path: None
    gradients: bool = False
    dtype: str = "float32"


def vgg(row: str) -> Callable[[Any], Any]:
    """Return VGG for images of 32x32: the pooling to 7x7 is removed, since the feature map is 1x1."""

    def make(models: Any) -> Any:
        import torch

        model = getattr(models, row)(num_classes=CLASSES)
        model.avgpool = torch.nn.Identity()
        model.classifier[0] = torch.nn.Linear(512, 4096)
        return model

    return make


def plain(row: str, **options: Any) -> Callable[[Any], Any]:
    return lambda models: getattr(models, row)(num_classes=CLASSES, **options)


CASES = {
    "resnet18": Case(plain("resnet18"), port.resnet_name, gradients=True),
    "resnet50": Case(plain("resnet50"), port.resnet_name),
    "resnet152": Case(plain("resnet152"), port.resnet_name, 32),
    "resnext50_32x4d": Case(plain("resnext50_32x4d"), port.resnet_name, 32, gradients=True),
    "wide_resnet50_2": Case(plain("wide_resnet50_2"), port.resnet_name, 32),
    "densenet121": Case(plain("densenet121"), port.densenet_name, gradients=True),
    "vgg11": Case(vgg("vgg11"), port.vgg_name("A", False), 32, gradients=True),
    "vgg16_bn": Case(vgg("vgg16_bn"), port.vgg_name("D", True), 32),
    "googlenet_bn": Case(
        # in float32 rounding decides some of its many maxima, and with it where the gradient goes
        plain("googlenet", aux_logits=False, init_weights=False),
        port.googlenet_name,
        68,
        gradients=True,
        dtype="float64",
    ),
    "vit_b_16": Case(plain("vit_b_16", image_size=32), port.vit_name, 32, special=port.vit_leaf, gradients=True),
}


@pytest.mark.exhaustive_cases("resnet152", "vgg11", "wide_resnet50_2")
@pytest.mark.parametrize("row", CASES)
def test_model_equals_torchvision(row: str) -> None:
    case = CASES[row]
    torchvision = port.torchvision()
    import torch

    theirs = case.make(torchvision.models).eval()
    state = port.randomized(torch, theirs)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, case.side, case.side, 3)).astype(case.dtype)
    cotangent = rng.normal(size=(2, CLASSES)).astype(case.dtype)
    with jax.enable_x64(case.dtype == "float64"), jax.default_matmul_precision("highest"):
        logits, grads, abstract = ours(row, state, images, cotangent)
    theirs = theirs.to(getattr(torch, case.dtype))
    expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2)))
    scale = expected.abs().max().item()
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-4, atol=1e-4 * scale)
    if case.gradients:
        expected.backward(torch.tensor(cotangent))
        state = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
        wanted = port.ported({"params": abstract["params"]}, state, case.name, case.special)["params"]
        largest = max(np.abs(x).max() for x in jax.tree.leaves(wanted))

        def close(found: jax.Array, want: jax.Array) -> None:
            # the gradient of a bias of attention's keys is 0 but for rounding
            atol = 1e-3 * max(np.abs(want).max(), 1e-3 * largest)
            np.testing.assert_allclose(found, want, rtol=1e-3, atol=atol)

        jax.tree.map(close, grads, wanted)


def ours(row: str, state: Any, images: np.ndarray, cotangent: np.ndarray) -> tuple[Any, Any, Any]:
    """Return logits, gradients of all parameters (if the case has them), and the shapes of the variables."""
    case = CASES[row]
    model = MODELS.create(row, num_classes=CLASSES, dtype=case.dtype)
    abstract = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    variables = port.ported(abstract, state, case.name, case.special)

    def run(variables: Any) -> Any:
        stats = {k: v for k, v in variables.items() if k != "params"}

        def logits(params: Any) -> jax.Array:
            return model.apply({"params": params, **stats}, images, train=False)

        if not case.gradients:
            return logits(variables["params"]), None
        found, back = jax.vjp(logits, variables["params"])
        return found, back(jnp.asarray(cotangent))[0]

    return *jax.jit(run)(variables), abstract
