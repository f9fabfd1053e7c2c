"""Folded models against the models that they are made of."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.analysis.cost import flops
from jaxtrain.nn.folding import fold_batch_norm
from jaxtrain.optim.param_rules import path_name
from tests.conftest import slow

MODELS = {
    "resnet": (lambda: models.cifar_resnet(num_classes=3, depth=8, shortcut="B"), 12, 0),
    "resnext": (lambda: models.cifar_resnext(num_classes=3, depth=11, groups=2, group_width=4), 8, 0),
    "googlenet": (lambda: models.googlenet_bn(num_classes=3), 32, 0),
    "vgg": (lambda: models.vgg11_bn(num_classes=3), 32, 0),
    "fractalnet": (lambda: models.fractalnet(num_classes=3, features=(4,), dropout_rates=(0.1,)), 4, 0),
    # a normalization that is first in a block follows several layers, or its input has other users
    "wide": (lambda: models.wide_resnet(num_classes=3, depth=10, width=1), 8, 4),
    "densenet": (lambda: models.cifar_densenet(num_classes=3, depth=10, growth=4), 8, 6),
}
"""The model, the side of its images, and the number of normalizations that cannot be folded."""


def draw_variables(model: nn.Module, images: np.ndarray) -> Any:
    """Return random variables, none of which is 0 or 1."""
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.asarray(images), train=False))

    def draw(path: Any, leaf: Any) -> jax.Array:
        positive = path_name(path).endswith(("var", "scale"))
        value = rng.uniform(0.5, 1.5, leaf.shape) if positive else rng.normal(size=leaf.shape)
        if len(leaf.shape) > 1:
            value = value * np.sqrt(1.5 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, abstract)


def count_norms(variables: Any) -> int:
    return sum(path_name(p).endswith("var") for p, _ in jax.tree_util.tree_leaves_with_path(variables))


@pytest.mark.exhaustive_cases("googlenet", "vgg")
@pytest.mark.quick_cases("fractalnet")
@pytest.mark.parametrize("name", [name if name in ("resnext", "fractalnet", "wide") else slow(name) for name in MODELS])
def test_fold_batch_norm_keeps_logits_and_removes_normalizations(name: str) -> None:
    make, side, left = MODELS[name]
    model: Any = make()
    images = np.random.default_rng(1).normal(size=(3, side, side, 3)).astype(np.float32)
    variables = draw_variables(model, images)
    folded, fewer = fold_batch_norm(model, variables, images)
    expected = jax.jit(lambda v: model.apply(v, images, train=False))(variables)
    found = jax.jit(lambda v: folded.apply(v, images))(fewer)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1, float(jnp.abs(expected).max())))
    assert count_norms(fewer) == left < count_norms(variables)
    if not left:
        assert set(fewer) == {"params"}
        assert not [p for p in map(str, jax.tree_util.tree_leaves_with_path(fewer["params"])) if "norm" in p]


def test_fold_batch_norm_leaves_layers_with_other_users_unchanged() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
            y = nn.Dense(4, name="shared")(x)
            alone = nn.Dense(4, use_bias=False, name="alone")(x)
            y = y + nn.BatchNorm(use_running_average=True, name="of_shared")(y)
            return y + nn.BatchNorm(use_running_average=True, use_scale=False, name="of_alone")(alone)

    images = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
    variables = draw_variables(Net(), images)
    folded, fewer = fold_batch_norm(Net(), variables, images)
    assert folded.pairs == ((("alone",), ("of_alone",)),)
    np.testing.assert_allclose(folded.apply(fewer, images), Net().apply(variables, images, train=False), atol=1e-5)
    with pytest.raises(ValueError, match="for inference only"):
        folded.apply(fewer, images, train=True)


@pytest.mark.slow
def test_fold_batch_norm_keeps_flops_and_removes_operations() -> None:
    model = models.cifar_resnet(num_classes=3, depth=8)
    images = np.zeros((1, 8, 8, 3), np.float32)
    variables = draw_variables(model, images)
    folded, fewer = fold_batch_norm(model, variables, images)
    before = jax.make_jaxpr(lambda v: model.apply(v, images, train=False))(variables).jaxpr
    after = jax.make_jaxpr(lambda v: folded.apply(v, images))(fewer).jaxpr
    assert flops(before) == flops(after)
    assert len(after.eqns) < len(before.eqns)
