"""A whitening first layer against numpy on extracted patches, and the Dirac initializer against torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.models import MODELS
from jaxtrain.nn.init.initializers import dirac
from jaxtrain.nn.init.patch_whitening import whiten_first_layer, whitening_filters

RNG = np.random.RandomState(0)
SMOOTH = RNG.normal(size=(40, 26, 26, 3)).cumsum(1).cumsum(2).astype(np.float32)
SMOOTH /= SMOOTH.std()


def patches(images: np.ndarray, window: int, stride: int = 1) -> np.ndarray:
    """Return f[patches, window * window * channels] in the axis order of a kernel: rows, columns, channels."""
    cut = np.lib.stride_tricks.sliding_window_view(images, (window, window), axis=(1, 2))[:, ::stride, ::stride]
    return cut.transpose(0, 1, 2, 4, 5, 3).reshape(-1, window * window * images.shape[3]).astype(np.float64)


def net() -> Any:
    return MODELS.create("airbench94", num_classes=3, widths=(4, 4, 4))


def first_outputs(variables: Any, images: np.ndarray) -> np.ndarray:
    """Return the outputs of the convolution `whiten`, f64[positions, features]."""
    model = nn.Conv(24, (2, 2), padding="VALID")
    out: Any = model.apply({"params": variables["params"]["whiten"]}, images)
    return np.asarray(out, np.float64).reshape(-1, 24)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_whiten_first_layer_gives_white_outputs(epsilon: float) -> None:
    variables = whiten_first_layer(net(), jax.random.key(0), SMOOTH, epsilon=epsilon)
    out = first_outputs(variables, SMOOTH)
    np.testing.assert_allclose(out[:, 12:], -out[:, :12], atol=1e-4)
    moments = out[:, :12].T @ out[:, :12] / len(out)
    eigenvalues = np.linalg.eigvalsh(patches(SMOOTH, 2).T @ patches(SMOOTH, 2) / len(out))[::-1]
    np.testing.assert_allclose(moments, np.diag(eigenvalues / (eigenvalues + epsilon)), atol=2e-3)


@pytest.mark.slow
def test_whiten_first_layer_changes_only_the_first_kernel() -> None:
    model = net()
    found = whiten_first_layer(model, jax.random.key(0), SMOOTH)
    plain: Any = jax.jit(lambda: model.init(jax.random.key(0), jnp.asarray(SMOOTH[:1]), train=False))()
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), found, plain)
    assert [path for path, d in jax.tree_util.tree_leaves_with_path(differ) if d] == [
        tuple(map(jax.tree_util.DictKey, ("params", "whiten", "kernel")))
    ]


@pytest.mark.quick_cases("9-2")
@pytest.mark.parametrize(("features", "stride"), [(5, 1), (9, 2), (15, 1)])
def test_whiten_first_layer_handles_any_convolution(features: int, stride: int) -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
            x = nn.Conv(features, (3, 3), strides=stride, padding="VALID", name="inner")(x)
            return nn.Dense(2)(x.mean(axis=(1, 2)))

    grey = SMOOTH[..., :1]
    found = whiten_first_layer(Net(), jax.random.key(0), grey, epsilon=0.01)["params"]["inner"]["kernel"]
    cut = patches(grey, 3, stride)
    wanted = whitening_filters(cut.T @ cut / len(cut), 0.01)
    wanted = np.concatenate([wanted, -wanted], axis=1)[:, :features]
    np.testing.assert_allclose(np.asarray(found).reshape(9, features), wanted, rtol=1e-3, atol=1e-4)


def test_whitening_filters_have_a_fixed_order_and_signs() -> None:
    moments = np.diag([1.0, 4.0, 0.0])
    np.testing.assert_allclose(whitening_filters(moments, 1.0), [[0, 2**-0.5, 0], [5**-0.5, 0, 0], [0, 0, 1]])


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


class TooWide(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Conv(25, (2, 2), padding="VALID")(x)


class Small(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Conv(4, (2, 2), padding="VALID")(x)


@pytest.mark.parametrize(("model", "images", "says"), [
    (Dense(), SMOOTH, "a convolution with one group, but Dense_0 is called first"),
    (TooWide(), SMOOTH, "Conv_0, has 25 features, but patches of 12 values have only 12"),
    (Small(), SMOOTH[:1, :2, :2], "1 patches are too few to compute the 12 components"),
])  # fmt: skip
def test_whiten_first_layer_refuses_unsuitable_models_and_images(model: Any, images: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        whiten_first_layer(model, jax.random.key(0), images)


@pytest.mark.quick_cases("shape0")
@pytest.mark.parametrize("shape", [(3, 3, 4, 7), (3, 3, 5, 5), (2, 2, 6, 4), (1, 1, 2, 3)])
def test_dirac_initializer_equals_torch(shape: tuple[int, int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    found = np.asarray(dirac()(jax.random.key(0), shape, jnp.float32))
    same = min(shape[2:])
    wanted = torch.nn.init.dirac_(torch.zeros(same, *shape[2:3], *shape[:2])).permute(2, 3, 1, 0).numpy()
    np.testing.assert_array_equal(found[..., :same], wanted)
    rest, bound = found[..., same:], (shape[0] * shape[1] * shape[2]) ** -0.5
    assert np.abs(rest).max(initial=0) <= bound
    assert rest.size == 0 or np.abs(rest).max() > 0.5 * bound
