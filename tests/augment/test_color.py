"""Colors and filters against torchvision and Pillow for given parameters; uint8 to one level, since both of them cut
fractions off where these functions round.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.augment import blur, fancy_pca
from jaxtrain.augment.color import brightness_given, contrast_given, hue_given, random_gray_given, saturation_given
from jaxtrain.augment.jitter import Jitter, color_jitter_given
from jaxtrain.augment.principal_colors import IMAGENET_COLORS, ColorPca, fancy_pca_given, fit_color_pca
from jaxtrain.augment.sharpness import blur_given, sharpen_given
from jaxtrain.augment.tones import (
    autocontrast_given,
    equalize_given,
    gamma_given,
    invert_given,
    posterize_given,
    solarize_given,
)
from tests.models.torch_port import torchvision

SHAPE = (19, 23, 3)
CHANGES: dict[str, tuple[Any, list[float], str]] = {
    "brightness": (brightness_given, [0.0, 0.6, 1.7], "adjust_brightness"),
    "contrast": (contrast_given, [0.0, 0.6, 1.7], "adjust_contrast"),
    "saturation": (saturation_given, [0.0, 0.6, 1.7], "adjust_saturation"),
    "hue": (hue_given, [-0.5, -0.13, 0.31], "adjust_hue"),
    "gamma": (gamma_given, [0.4, 1.0, 2.2], "adjust_gamma"),
    "sharpness": (sharpen_given, [0.0, 0.6, 1.7], "adjust_sharpness"),
    "blur": (lambda sigma, x: blur_given(sigma, x, 5), [0.3, 1.0, 2.0], "gaussian_blur"),
}


def photo(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return an image with different channels and some gray pixels, which have no hue."""
    rng = np.random.default_rng(4)
    x = (rng.beta(2, 3, shape) * np.array([255, 200, 120])[: shape[2]]).astype(np.uint8)
    x[:3, :4] = 90
    return x


def torch_result(name: str, x: np.ndarray, value: float) -> np.ndarray:
    torchvision()
    import torch
    from torchvision.transforms.v2 import functional

    given = torch.tensor(x).permute(2, 0, 1)
    options = (5, value) if name == "gaussian_blur" else (value,)
    return getattr(functional, name)(given, *options).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", CHANGES)
def test_color_operations_equal_torchvision(name: str, dtype: Any) -> None:
    """Floats agree to 2e-4, since torchvision's luma weights have four digits (0.2989)."""
    change, values, oracle = CHANGES[name]
    x = photo() if dtype == np.uint8 else photo().astype(np.float32) / 255
    results = np.asarray(jax.jit(jax.vmap(change, (0, None)))(np.array(values, np.float32), x))
    assert results.dtype == dtype
    for value, result in zip(values, results, strict=True):
        expected = torch_result(oracle, x, value)
        if dtype == np.uint8:
            assert np.abs(result.astype(int) - expected).max() <= (2 if name in ("contrast", "sharpness") else 1)
        else:
            np.testing.assert_allclose(result, expected, atol=2e-4)


def test_tone_operations_equal_pillow() -> None:
    """Results agree exactly, except autocontrast, which Pillow does not round."""
    pil = pytest.importorskip("PIL.ImageOps")
    from PIL import Image

    x = photo()
    picture = Image.fromarray(x)
    thresholds, bits = np.array([0, 60, 128, 255]), np.array([0, 1, 4, 7, 8], np.int32)

    @jax.jit
    def run(x: jax.Array) -> dict[str, jax.Array]:
        return {
            "solarize": jax.vmap(solarize_given, (0, None))(jnp.array(thresholds / 255, jnp.float32), x),
            "posterize": jax.vmap(posterize_given, (0, None))(jnp.array(bits), x),
            "equalize": equalize_given(x),
            "invert": invert_given(x),
            "autocontrast": autocontrast_given(x),
        }

    ours = {name: np.asarray(result) for name, result in run(x).items()}
    for threshold, result in zip(thresholds, ours["solarize"], strict=True):
        np.testing.assert_array_equal(result, pil.solarize(picture, int(threshold)))
    for kept, result in zip(bits, ours["posterize"], strict=True):
        np.testing.assert_array_equal(result, x & (256 - (1 << (8 - int(kept)))))
    np.testing.assert_array_equal(ours["equalize"], pil.equalize(picture))
    np.testing.assert_array_equal(ours["invert"], pil.invert(picture))
    assert np.abs(ours["autocontrast"].astype(int) - np.asarray(pil.autocontrast(picture))).max() <= 1
    assert not np.array_equal(ours["equalize"], x)

    floats = run(x.astype(np.float32) / 255)  # which are the same levels, in [0, 1]
    for name in ("solarize", "posterize", "equalize", "invert"):
        np.testing.assert_array_equal(np.rint(np.asarray(floats[name]) * 255), ours[name])


def test_color_operations_at_neutral_parameters_are_exact_identities() -> None:
    x = photo()

    @jax.jit
    def run(one: jax.Array, x: jax.Array) -> list[jax.Array]:
        factors = (brightness_given, contrast_given, saturation_given, sharpen_given, gamma_given)
        same = [change(one, x) for change in factors]
        same += [hue_given(one - 1, x), hue_given(one, x), posterize_given(jnp.int32(8), x)]
        same += [random_gray_given(one < 1, x), blur_given(one - 1, x, 5), fancy_pca_given(jnp.zeros(3), x)]
        return [*same, color_jitter_given(Jitter(one, one, one, one - 1), x)]

    for result in run(jnp.float32(1), x):
        np.testing.assert_array_equal(result, x)


@pytest.mark.slow
def test_autocontrast_and_equalize_keep_constant_images() -> None:
    x = jnp.full((20, 20, 3), 77, jnp.uint8)
    np.testing.assert_array_equal(autocontrast_given(x), x)
    np.testing.assert_array_equal(equalize_given(x), x)


def test_color_operations_keep_gray_images_and_refuse_other_channels() -> None:
    x = jnp.asarray(photo((6, 5, 1)))
    for result in (saturation_given(jnp.float32(0), x), hue_given(jnp.float32(0.3), x), random_gray_given(True, x)):
        np.testing.assert_array_equal(result, x)
    with pytest.raises(ValueError, match=r"brightness and hue need images of 1 or 3 channels; these have 4"):
        hue_given(jnp.float32(0.1), jnp.zeros((2, 2, 4)))
    with pytest.raises(ValueError, match=r"these are int32"):
        brightness_given(jnp.float32(0.1), jnp.zeros((2, 2, 3), jnp.int32))


@pytest.mark.slow
def test_color_jitter_applies_its_parts_in_the_drawn_order() -> None:
    x = photo()
    draw = Jitter(*map(jnp.float32, (1.3, 0.7, 1.4, 0.2)))
    parts = [brightness_given, contrast_given, saturation_given, hue_given]
    orders = np.array([[0, 1, 2, 3], [3, 1, 0, 2]], np.int32)
    results = jax.jit(jax.vmap(lambda order: color_jitter_given(draw, x, order)))(orders)
    for order, result in zip(orders, results, strict=True):
        expected = jnp.asarray(x)
        for which in order:
            expected = parts[which](draw[which], expected)
        assert np.abs(np.asarray(result, int) - np.asarray(expected, int)).max() <= 1
    assert not np.array_equal(*results)


@pytest.mark.slow
def test_blur_keeps_a_constant_image_and_refuses_even_sizes() -> None:
    x = jnp.full((3, 2, 1), 0.25)
    np.testing.assert_allclose(blur_given(jnp.float32(2), x, 13), x, atol=1e-6)
    with pytest.raises(ValueError, match="size=4 must be odd; set it to 3 or 5"):
        blur(size=4)


def test_fit_color_pca_equals_the_covariance_of_pixels() -> None:
    images = np.stack([photo(), photo()[::-1] // 2])
    pca = fit_color_pca([images])
    pixels = images.reshape(-1, 3) / 255
    vectors = np.array(pca.eigenvectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)
    expected = np.cov(pixels, rowvar=False, bias=True)
    np.testing.assert_allclose(vectors.T @ np.diag(pca.eigenvalues) @ vectors, expected, atol=1e-12)
    assert list(pca.eigenvalues) == sorted(pca.eigenvalues, reverse=True)
    assert fit_color_pca([images[1:], images[:1]]) == pca
    assert fancy_pca(eigenvalues=pca.eigenvalues, eigenvectors=pca.eigenvectors)


def test_fancy_pca_shifts_colors_along_the_principal_axes() -> None:
    x, alpha = photo().astype(np.float32) / 512 + 0.25, np.array([0.2, -0.3, 0.5], np.float32)
    shift = np.array(IMAGENET_COLORS.eigenvectors).T @ (alpha * np.array(IMAGENET_COLORS.eigenvalues))
    np.testing.assert_allclose(fancy_pca_given(jnp.array(alpha), jnp.array(x)), x + shift, atol=1e-6)
    grey = fancy_pca_given(jnp.array(alpha), jnp.array(x[:, :, :1]))
    np.testing.assert_allclose(grey, x[:, :, :1] + shift @ np.array([0.299, 0.587, 0.114]), atol=1e-6)
    vectors = np.array(IMAGENET_COLORS.eigenvectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=2e-3)  # they were printed with four digits


def test_fancy_pca_refuses_eigenvectors_and_images_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"2 eigenvalues need as many eigenvectors of that length, not \[3, 3, 3\]"):
        fancy_pca(eigenvalues=(0.1, 0.2))
    with pytest.raises(ValueError, match="the principal axes have 2 channels, but the images 3"):
        fancy_pca_given(jnp.zeros(2), jnp.zeros((1, 1, 3)), ColorPca((1.0, 0.5), ((1.0, 0.0), (0.0, 1.0))))
    with pytest.raises(ValueError, match="fit_color_pca needs at least one image"):
        fit_color_pca([np.zeros((0, 4, 4, 3), np.uint8)])
