"""Rematerialized blocks: the gradient is the same, and stronger settings save fewer residuals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from jaxtrain.config import ModelSpec, digest
from jaxtrain.errors import ConfigError
from tests.conftest import tiny_config
from tests.levels import slow_except

FAMILIES = {"cifar_resnet(depth=8)": 8, "vit(patch=4, width=16, depth=2, heads=2, mlp_width=32)": 8}


def loss_of(family: str, remat: Any) -> tuple[Any, Any]:
    side = FAMILIES[family]
    model = ModelSpec.parse(family).replace(remat=remat).build(num_classes=3)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, side, side, 3)), jnp.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.2, x.dtype), variables)
    params = variables.pop("params")

    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply({"params": params, **variables}, images, train=True, mutable=True)
        return jnp.square(logits).sum()

    return loss, params


def count_residuals(family: str, remat: Any, capsys: pytest.CaptureFixture[str]) -> int:
    """Return the number of values that a gradient saves from the forward pass, without parameters."""
    print_saved_residuals(*loss_of(family, remat))
    lines = capsys.readouterr().out.splitlines()
    return sum("from the argument" not in line and "from a constant" not in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("family", slow_except(FAMILIES, "cifar_resnet(depth=8)"))
def test_stronger_rematerialization_saves_fewer_residuals(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    everything, convs, dots, nothing = (
        count_residuals(family, remat, capsys) for remat in (False, "convs", "dots", "full")
    )
    assert everything > convs
    assert convs >= dots >= nothing
    assert (convs > dots) == ("resnet" in family)  # blocks of a transformer have no convolutions
    assert (dots > nothing) == ("vit" in family)
    assert count_residuals(family, True, capsys) == nothing


@pytest.mark.slow
@pytest.mark.parametrize("remat", slow_except(["full", "convs"], "full"))
def test_rematerialization_does_not_change_the_gradient(remat: str) -> None:
    family = "vit(patch=4, width=16, depth=2, heads=2, mlp_width=32)"
    plain, again = (jax.jit(jax.grad(loss))(params) for loss, params in (loss_of(family, r) for r in (False, remat)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), again, plain)


def test_remat_settings_give_distinct_digests_and_false_is_the_default() -> None:
    configs = [tiny_config(model=f"cifar_resnet(depth=8, remat={x})") for x in ("false", "true", "convs")]
    assert len({digest(config) for config in configs}) == 3
    assert digest(configs[0]) == digest(tiny_config(model="cifar_resnet(depth=8)"))
    with pytest.raises(ConfigError, match="did you mean 'convs'"):
        tiny_config(model="cifar_resnet(depth=8, remat=conv)")
