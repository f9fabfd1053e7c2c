"""Dense layers as convolutions: each score of a map equals the logits of the model on the crop at that position."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain import models
from jaxtrain.models.score_maps import mean_scores, score_map
from jaxtrain.nn.folding import fold_batch_norm
from jaxtrain.nn.normalization import BatchNorm
from jaxtrain.nn.pooling import pool

RNG = np.random.default_rng(0)


class Unpadded(nn.Module):
    """A net without padding: a convolution, a pooling, and a normalized dense layer without a bias."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.relu(nn.Conv(3, (3, 3), padding="VALID")(images))
        x = pool(x, "average")
        x = nn.Dense(5, use_bias=False)(x.reshape(x.shape[0], -1))
        x = nn.tanh(BatchNorm(train=train, name="norm")(x))
        return nn.Dense(4)(inputs=x)


def images(height: int, width: int, channels: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=(2, height, width, channels)), jnp.float32)


def init_variables(model: nn.Module, shape: tuple[int, int, int]) -> Any:
    return jax.jit(lambda key: model.init(key, jnp.zeros((1, *shape)), train=False))(jax.random.key(0))


def logits_of_crops(model: Any, variables: Any, x: jax.Array, side: tuple[int, int], stride: int) -> np.ndarray:
    """Return the logits of every crop, `[N, rows, columns, K]`, by the original model."""
    (h, w), apply = side, jax.jit(lambda crop: model.apply(variables, crop, train=False))
    tops, lefts = range(0, x.shape[1] - h + 1, stride), range(0, x.shape[2] - w + 1, stride)
    return np.stack([[apply(x[:, i : i + h, j : j + w]) for j in lefts] for i in tops]).transpose(2, 0, 1, 3)


def test_score_map_equals_the_model_on_every_crop() -> None:
    """Stride 2, from 8x6 to 14x10: 4x3 positions; with and without folded normalization."""
    model, x = Unpadded(), images(14, 10, 2)
    variables = init_variables(model, (8, 6, 2))
    statistics = {"norm": {"mean": RNG.normal(size=5).astype("f"), "var": RNG.uniform(0.5, 2, 5).astype("f")}}
    variables = {**variables, "batch_stats": statistics}
    wanted = logits_of_crops(model, variables, x, (8, 6), 2)
    assert wanted.shape == (2, 4, 3, 4)
    found = score_map(model, variables, x, (8, 6, 2))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    folded, theirs = fold_batch_norm(model, variables, jax.ShapeDtypeStruct((1, 8, 6, 2), jnp.float32))
    assert folded.pairs
    np.testing.assert_allclose(score_map(folded, theirs, x, (8, 6, 2)), wanted, atol=1e-5)
    np.testing.assert_allclose(mean_scores(model, variables, x, (8, 6, 2)), wanted.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.slow
def test_score_map_of_lenet5_equals_the_model_on_every_crop() -> None:
    """From 32 to 40 at the stride of 4: 3x2 positions."""
    model, x = models.create("lenet5", num_classes=3), images(40, 36, 1)
    variables = init_variables(model, (32, 32, 1))
    wanted = logits_of_crops(model, variables, x, (32, 32), 4)
    assert wanted.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(score_map(model, variables, x, (32, 32, 1)), wanted, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [pytest.param("lenet5", 16, marks=pytest.mark.slow), ("mlp", 4)])
def test_mean_scores_at_the_training_size_equal_the_logits(name: str, side: int) -> None:
    model, x = models.create(name, num_classes=3), images(side, side, 1)
    variables = init_variables(model, (side, side, 1))
    logits = model.apply(variables, x, train=False)
    np.testing.assert_array_equal(mean_scores(model, variables, x, (side, side, 1)), logits)


def test_score_map_of_a_linear_model_equals_the_model_on_every_crop() -> None:
    model, x = models.create("linear", num_classes=3), images(5, 7, 2)
    variables = init_variables(model, (4, 5, 2))
    found = score_map(model, variables, x, (4, 5, 2))
    np.testing.assert_allclose(found, logits_of_crops(model, variables, x, (4, 5), 1), atol=1e-5)


def test_score_map_of_a_model_with_global_pooling_gives_its_logits() -> None:
    """A model without flattening is applied unchanged; mean of scores and score of the mean agree."""

    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            return nn.Dense(4, name="logits")(nn.Conv(6, (3, 3), name="conv")(images).mean(axis=(1, 2)))

    model, x = Pooled(), images(9, 8, 1)
    variables = init_variables(model, (5, 5, 1))
    params = variables["params"]
    places = nn.Dense(4).apply({"params": params["logits"]}, nn.Conv(6, (3, 3)).apply({"params": params["conv"]}, x))
    assert score_map(model, variables, x, (5, 5, 1)).shape == (2, 4)
    np.testing.assert_allclose(mean_scores(model, variables, x, (5, 5, 1)), places.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "trained", "side", "shape"),
    [
        ("vgg11", 224, 256, (1, 2, 2, 7)),
        ("alexnet", 227, 291, (1, 3, 3, 7)),
        ("zfnet", 224, 256, (1, 2, 2, 7)),
        pytest.param("googlenet", 224, 256, (1, 7), marks=pytest.mark.slow),
        ("resnet20", 32, 40, (1, 7)),
    ],
)
def test_score_map_applies_registered_models_to_larger_images(
    name: str, trained: int, side: int, shape: tuple[int, ...]
) -> None:
    model = models.create(name, num_classes=7)
    own = (trained, trained, 3)
    variables = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, *own)), train=False), jax.eval_shape(lambda: jax.random.key(0))
    )
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    assert jax.eval_shape(lambda v, x: score_map(model, v, x, own), variables, x).shape == shape


@pytest.mark.slow
def test_score_map_keeps_half_precision() -> None:
    model = models.create("lenet5", num_classes=3, dtype="bfloat16")
    variables, x = init_variables(model, (16, 16, 1)), images(20, 20, 1)
    found = jax.eval_shape(lambda x: score_map(model, variables, x, (16, 16, 1)), x)
    assert (found.shape, found.dtype) == ((2, 2, 2, 3), jnp.float32)
    jaxpr = str(jax.make_jaxpr(lambda x: score_map(model, variables, x, (16, 16, 1)))(x))
    assert "bf16[2,2,2,120]" in jaxpr


@pytest.mark.quick_cases("lenet5-8-*")
@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("lenet5", 20, "fc1 needs a feature map of at least 5x5, but these images give 2x2"),
        ("lenet5", 8, "the model cannot take images of 8x8x1: lenet5 needs images of at least 16x16"),
    ],
)
def test_score_map_refuses_smaller_images(name: str, side: int, message: str) -> None:
    model = models.create(name, num_classes=3)
    variables = init_variables(model, (32, 32, 1))
    with pytest.raises(ValueError, match=message):
        score_map(model, variables, images(side, side, 1), (32, 32, 1))
