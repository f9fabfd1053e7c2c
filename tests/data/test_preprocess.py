"""Resizing against Pillow and an interpolation in numpy; padding; normalization against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.preprocessing.resizing import output_shape, pad_images, resize_images
from jaxtrain.errors import DataError
from tests.conftest import examples

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 9, 6, 3), np.uint8)
SIZES = [(5, 11), (18, 12), (4, 3), (1, 1), (9, 12)]


@pytest.mark.parametrize("size", SIZES)
def test_resize_equals_pillow_on_color_images(size: tuple[int, int]):
    expected = [Image.fromarray(x).resize((size[1], size[0]), Image.Resampling.BILINEAR) for x in IMAGES]
    result = resize_images(IMAGES, size)
    assert (result.shape, result.dtype) == ((3, *size, 3), np.uint8)
    np.testing.assert_array_equal(result, np.stack([np.asarray(x) for x in expected]))


def weights(inputs: int, outputs: int) -> np.ndarray:
    """Return rows of a triangle filter around each output pixel, widened by the reduction factor."""
    scale = inputs / outputs
    centers = (np.arange(outputs) + 0.5) * scale - 0.5
    distance = np.abs(centers[:, None] - np.arange(inputs)) / max(scale, 1)
    triangle = np.clip(1 - distance, 0, None)
    return triangle / triangle.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_resize_is_bilinear_and_antialiased(size: tuple[int, int], channels: int):
    images = np.random.default_rng(channels).integers(0, 256, (2, 9, 6, channels), np.uint8)
    rows, columns = weights(9, size[0]), weights(6, size[1])
    expected = np.einsum("ih,jw,nhwc->nijc", rows, columns, images)
    # Pillow rounds to whole levels after each of its two passes
    assert np.abs(resize_images(images, size) - expected).max() <= 1.01


def test_resize_to_the_same_size_changes_nothing():
    np.testing.assert_array_equal(resize_images(IMAGES, (9, 6)), IMAGES)


def test_pad_adds_zeros_on_each_side():
    padded = pad_images(IMAGES, 2)
    assert padded.shape == (3, 13, 10, 3)
    np.testing.assert_array_equal(padded[:, 2:-2, 2:-2], IMAGES)
    assert padded.sum(dtype=np.int64) == IMAGES.sum(dtype=np.int64)
    np.testing.assert_array_equal(pad_images(IMAGES, 0), IMAGES)


@pytest.mark.parametrize("size", [None, (5, 11)])
@pytest.mark.parametrize("pad", [0, 3])
def test_output_shape_equals_the_shape_after_resize_and_pad(size: tuple[int, int] | None, pad: int):
    images = pad_images(resize_images(IMAGES, size) if size else IMAGES, pad)
    assert output_shape((9, 6, 3), size, pad) == images.shape[1:]


def levels(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float64) / 255


@examples(40)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    low=st.integers(0, 255),
    width=st.integers(1, 255),
    seed=st.integers(0, 99),
)
def test_normalization_fit_equals_numpy(shape: tuple[int, ...], low: int, width: int, seed: int):
    images = np.random.default_rng(seed).integers(low, min(low + width, 256), shape).astype(np.uint8)
    fitted = Normalization.fit(images, "mean_std")
    mean, std = levels(images).mean(axis=(0, 1, 2)), levels(images).std(axis=(0, 1, 2))
    np.testing.assert_allclose(fitted.mean, mean, rtol=1e-12)
    constant = (images == images[:1, :1, :1]).all(axis=(0, 1, 2))
    # numpy's own sum has an error of about 1e-16 of a level, which matters for a small deviation
    np.testing.assert_allclose(np.array(fitted.std)[~constant], std[~constant], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(np.array(fitted.std)[constant], 1.0)


def test_normalization_fit_is_exact_for_a_small_standard_deviation():
    """One pixel of 40,000 differs by one level: std = sqrt(n - 1) / n / 255, lost in a float32 sum of squares."""
    images = np.full((1, 200, 200, 1), 254, np.uint8)
    images[0, 0, 0, 0] = 255
    fitted = Normalization.fit(images, "mean_std")
    np.testing.assert_allclose(fitted.std, [39_999**0.5 / 40_000 / 255], rtol=1e-15)
    np.testing.assert_allclose(fitted.mean, [(254 + 1 / 40_000) / 255], rtol=1e-15)


def test_normalization_fit_does_not_depend_on_the_order_of_pixels():
    shuffled = np.random.default_rng(1).permutation(IMAGES.reshape(-1, 3)).reshape(IMAGES.shape)
    assert Normalization.fit(shuffled, "mean_std") == Normalization.fit(IMAGES, "mean_std")


def test_a_constant_channel_is_centered_and_not_divided():
    images = IMAGES.copy()
    images[..., 1] = 7
    fitted = Normalization.fit(images, "mean_std")
    assert fitted.std[1] == 1.0
    np.testing.assert_allclose(fitted.mean[1], 7 / 255, rtol=1e-15)
    assert fitted.std[0] < 1


def test_scale_and_mean_normalizations_equal_numpy():
    assert Normalization.fit(IMAGES, "scale") == Normalization((0.0,) * 3, (1.0,) * 3)
    centered = Normalization.fit(IMAGES, "mean")
    np.testing.assert_allclose(centered.mean, levels(IMAGES).mean(axis=(0, 1, 2)), rtol=1e-12)
    assert centered.std == (1.0,) * 3


def test_normalization_fit_refuses_an_empty_set_of_images():
    with pytest.raises(DataError, match="no training images"):
        Normalization.fit(IMAGES[:0], "mean_std")
