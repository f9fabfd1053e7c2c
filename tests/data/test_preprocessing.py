"""Every kind of preprocessing against scikit-learn or numpy in float64: fit, apply and inverse."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from jaxtrain.config import DataConfig, PreprocessingSpec
from jaxtrain.data.preprocessing import PREPROCESSING
from jaxtrain.data.preprocessing.linear import LinearMap
from jaxtrain.data.preprocessing.moments import CHUNK, cross_sums, pixel_sums
from jaxtrain.data.source import ArraySource
from jaxtrain.data.splits import fit_normalization, load_splits, matches_normalization, plan_splits, validation_indices
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.errors import ConfigError, DataError
from tests.conftest import examples

N, SHAPE = 1500, (3, 4, 2)
D = 24
CALLS = [f"{name}()" for name in PREPROCESSING]
OPTIONS = ["standardize(0.01)", "pca(5)", "pca(5, rotate_back=true)", "whiten(0.0)", "whiten(0.1, 7)", "zca(0.0)"]
INVERTIBLE = [*CALLS, "standardize(0.01)", "pca(24)", "pca(rotate_back=true)", "whiten(0.0)", "zca(0.0)"]


def correlated_images(count: int = N, seed: int = 0) -> np.ndarray:
    """Return images with correlated pixels and standard deviations from 6 to 40 levels."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, D)) @ np.random.default_rng(9).standard_normal((D, D))
    levels = 128 + mixed / mixed.std() * np.geomspace(6, 40, D)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(count, *SHAPE)


IMAGES = correlated_images()
FLAT = IMAGES.reshape(N, D) / 255


def recipe(call: str) -> Any:
    return PreprocessingSpec.parse(call).build()


def flat(fitted: Any, images: np.ndarray) -> np.ndarray:
    """Return the preprocessed images as a matrix."""
    return np.asarray(fitted.apply(jnp.asarray(images))).reshape(len(images), -1).astype(np.float64)


def leaves(fitted: Any) -> list[np.ndarray]:
    return [np.asarray(value) for value in vars(fitted).values()]


@pytest.mark.parametrize("call", [*CALLS, *OPTIONS])
def test_preprocessing_accepts_images_of_any_leading_shape(call: str):
    """Under jit, in float32, with the shape of the image kept."""
    fitted = recipe(call).fit([IMAGES])
    found = jax.jit(fitted.apply)(IMAGES[:6])
    assert (found.shape, found.dtype) == ((6, *SHAPE), jnp.float32)
    np.testing.assert_allclose(fitted.apply(jnp.asarray(IMAGES[0])), found[0], atol=1e-4)
    np.testing.assert_allclose(fitted.apply(jnp.asarray(IMAGES[:6].reshape(2, 3, *SHAPE)))[1], found[3:], atol=1e-4)
    assert fitted.inverse(found).shape == found.shape


@pytest.mark.parametrize("call", ["mean_image()", "zca()"])
def test_preprocessing_keeps_the_sharding_of_a_batch(call: str):
    """Under jit, images sharded over 8 devices give the result of one device."""
    fitted, layout = recipe(call).fit([IMAGES]), make_layout(8, 16)
    divided = jax.jit(fitted.apply)(jax.device_put(IMAGES[:16], layout.batch))
    assert divided.sharding.is_equivalent_to(layout.batch, 4)
    np.testing.assert_allclose(divided, fitted.apply(jnp.asarray(IMAGES[:16])), atol=1e-4)


@pytest.mark.parametrize("call", INVERTIBLE)
def test_the_inverse_of_preprocessing_restores_the_image(call: str):
    fitted = recipe(call).fit([IMAGES])
    pictures = fitted.inverse(fitted.apply(jnp.asarray(IMAGES[:50])))
    np.testing.assert_allclose(pictures, IMAGES[:50] / 255, atol=1e-5)
    beyond = fitted.inverse(100 * fitted.apply(jnp.asarray(IMAGES[:50])))
    assert 0 <= np.min(beyond) <= np.max(beyond) <= 1


@pytest.mark.parametrize("call", ["scale()", "mean()", "mean_std()", "mean_image()", "standardize()"])
def test_featurewise_preprocessing_equals_numpy_and_sklearn(call: str):
    found = flat(recipe(call).fit([IMAGES]), IMAGES)
    pixels = FLAT.reshape(N, *SHAPE)
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    expected = {
        "scale()": pixels,
        "mean()": pixels - mean,
        "mean_std()": (pixels - mean) / std,
        "mean_image()": pixels - pixels.mean(axis=0),
        "standardize()": StandardScaler().fit_transform(FLAT).reshape(pixels.shape),
    }[call]
    np.testing.assert_allclose(found, expected.reshape(N, D), atol=5e-6)


def test_standardize_treats_constant_features_as_sklearn_does():
    images = IMAGES.copy()
    images[:, 0, 0, 0] = 77
    scaler = StandardScaler().fit(images.reshape(N, D) / 255)
    fitted = recipe("standardize()").fit([images])
    np.testing.assert_allclose(fitted.std.reshape(D), scaler.scale_, rtol=1e-9)
    assert fitted.std[0, 0, 0] == 1
    softened = recipe("standardize(0.01)").fit([images])
    np.testing.assert_allclose(softened.std.reshape(D)[1:] ** 2, scaler.var_[1:] + 0.01, rtol=1e-9)
    assert softened.std[0, 0, 0] == 1


def test_pca_equals_sklearn_up_to_signs():
    found = flat(recipe("pca()").fit([IMAGES]), IMAGES)
    expected = PCA().fit_transform(FLAT)
    np.testing.assert_allclose(found * np.sign((found * expected).sum(axis=0)), expected, atol=1e-5)
    covariance = found.T @ found / N
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-6
    assert (np.diff(np.diag(covariance)) < 0).all()


def test_pca_sets_omitted_components_to_zero_or_removes_them_from_the_image():
    whole, first = flat(recipe("pca()").fit([IMAGES]), IMAGES), flat(recipe("pca(5)").fit([IMAGES]), IMAGES)
    np.testing.assert_allclose(first[:, :5], whole[:, :5], atol=1e-6)
    assert not first[:, 5:].any()
    oracle = PCA(5).fit(FLAT)
    restored = oracle.inverse_transform(oracle.transform(FLAT))
    np.testing.assert_allclose(
        flat(recipe("pca(5, rotate_back=true)").fit([IMAGES]), IMAGES), restored - FLAT.mean(axis=0), atol=1e-5
    )
    fitted = recipe("pca(5)").fit([IMAGES])
    pictures = np.asarray(fitted.inverse(fitted.apply(jnp.asarray(IMAGES)))).reshape(N, D)
    np.testing.assert_allclose(pictures, np.clip(restored, 0, 1), atol=1e-5)


def test_whiten_equals_sklearn_up_to_signs():
    """sklearn divides sums of squares by N - 1, jaxtrain by N."""
    found = flat(recipe("whiten(0.0)").fit([IMAGES]), IMAGES)
    expected = PCA(whiten=True).fit_transform(FLAT) * np.sqrt(N / (N - 1))
    np.testing.assert_allclose(found * np.sign((found * expected).sum(axis=0)), expected, atol=1e-3)


@pytest.mark.parametrize("call", ["whiten(0.0)", "zca(0.0)"])
def test_whitened_training_images_have_identity_covariance(call: str):
    found = flat(recipe(call).fit([IMAGES]), IMAGES)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.T @ found / N, np.eye(D), atol=1e-3)


def test_whiten_adds_epsilon_to_the_variances():
    variances = PCA().fit(FLAT).explained_variance_ * (N - 1) / N
    found = flat(recipe("whiten(0.02)").fit([IMAGES]), IMAGES)
    np.testing.assert_allclose(found.T @ found / N, np.diag(variances / (variances + 0.02)), atol=1e-5)


def test_zca_is_symmetric_and_stays_closer_to_the_images_than_whiten():
    """The matrix is numpy's root of C^-1; among W with W C W' = I, any rotation of it is farther from the images."""
    fitted = recipe("zca(0.01)").fit([IMAGES])
    np.testing.assert_allclose(fitted.matrix, fitted.matrix.T, atol=1e-5)
    covariance = np.cov(FLAT.T, ddof=0) + 0.01 * np.eye(D)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(fitted.matrix, vectors / np.sqrt(values) @ vectors.T, atol=1e-5)
    centered = FLAT - FLAT.mean(axis=0)
    distance, rotated = (
        np.linalg.norm(flat(recipe(call).fit([IMAGES]), IMAGES) - centered) for call in ("zca(0.0)", "whiten(0.0)")
    )
    assert distance < rotated


@pytest.mark.parametrize("call", ["whiten(0.0)", "zca(0.0)", "pca()"])
@pytest.mark.parametrize("count", [10, N])
def test_whitening_stays_finite_in_directions_without_variance(call: str, count: int):
    """Constant pixels, and fewer images than features: no division by the root of a rounding error."""
    images = IMAGES[:count].copy()
    images[:, 0] = 200
    fitted = recipe(call).fit([images])
    found = flat(fitted, images)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 12
    unseen = images[:1].copy()
    unseen[:, 0] = 0
    assert np.abs(flat(fitted, unseen)).max() < 12
    np.testing.assert_allclose(fitted.inverse(fitted.apply(jnp.asarray(images))), images / 255, atol=1e-4)


def test_the_largest_entry_of_a_pca_component_is_positive():
    matrix = recipe("pca()").fit([IMAGES]).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(D)] > 0).all()


def split_into_batches(images: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    start = 0
    while start < len(images):
        size = sizes[start % len(sizes)]
        yield images[start : start + size]
        start += size


@examples(15)
@given(
    call=st.sampled_from([*CALLS, *OPTIONS]),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    seed=st.integers(0, 9),
)
def test_preprocessing_fit_does_not_depend_on_order_or_batch_size(call: str, sizes: list[int], seed: int):
    """The batches come from a generator, so a second pass over the images would get none."""
    shuffled = np.random.default_rng(seed).permutation(IMAGES)
    whole, parts = recipe(call).fit([IMAGES]), recipe(call).fit(split_into_batches(shuffled, sizes))
    for a, b in zip(leaves(whole), leaves(parts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert recipe(call).fits(whole, split_into_batches(shuffled, sizes))


@examples(25)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    low=st.integers(0, 255),
    width=st.integers(1, 256),
    seed=st.integers(0, 99),
)
def test_pixel_sums_and_cross_sums_equal_integer_arithmetic(shape: tuple[int, ...], low: int, width: int, seed: int):
    images = np.random.default_rng(seed).integers(low, min(low + width, 256), shape).astype(np.uint8)
    sums, crossed = pixel_sums([images]), cross_sums([images])
    exact = images.reshape(len(images), -1).astype(np.int64)
    np.testing.assert_array_equal(sums.first.reshape(-1), exact.sum(axis=0))
    np.testing.assert_array_equal(sums.second.reshape(-1), (exact**2).sum(axis=0))
    np.testing.assert_array_equal(crossed.cross, (exact - 128).T @ (exact - 128))
    np.testing.assert_array_equal(crossed.mean, sums.mean)
    np.testing.assert_allclose(np.diagonal(crossed.covariance), sums.variance.reshape(-1), atol=1e-15)
    constant = (exact == exact[:1]).all(axis=0)
    assert not sums.variance.reshape(-1)[constant].any()
    assert not crossed.covariance[constant].any()


def test_cross_sums_are_exact_beyond_float32_precision():
    """The largest sums of products that a chunk can have, and an odd sum."""
    images = np.zeros((3 * CHUNK, 1, 1, 2), np.uint8)
    images[0] = 255
    assert cross_sums([images]).cross.tolist() == [[127**2 + (3 * CHUNK - 1) * 128**2] * 2] * 2


@pytest.mark.parametrize("call", [*CALLS, *OPTIONS])
def test_preprocessing_recognizes_images_other_than_the_fitted_ones(call: str):
    """A change of one pixel by one level is recognized; scale() depends on no image."""
    made = recipe(call)
    fitted, other = made.fit([IMAGES]), IMAGES.copy()
    other[7, 1, 1, 1] ^= 1
    assert made.fits(fitted, [IMAGES])
    assert made.fits(fitted, [other]) == (call == "scale()")
    assert not made.fits(fitted, [IMAGES[:, :2, :, :1]])
    another = recipe("mean_image()" if isinstance(fitted, LinearMap) else "zca()").fit([IMAGES])
    assert not made.fits(another, [IMAGES])


@pytest.mark.parametrize("call", CALLS)
def test_preprocessing_fit_refuses_an_empty_set_of_images(call: str):
    for batches in ([], [IMAGES[:0]]):
        with pytest.raises(DataError, match="no training images"):
            recipe(call).fit(batches)


SYNTHETIC = "synthetic(height={}, width={}, channels=3, num_classes=3, train_examples=40, test_examples=5)"


def config(call: str, side: int = 3, **changes: Any) -> DataConfig:
    return DataConfig(dataset=SYNTHETIC.format(side, side), batch_size=4, normalize=call, **changes)


@pytest.mark.parametrize("call", ["pca", "whiten", "zca"])
def test_whitening_of_too_many_features_is_refused_before_reading_images(call: str):
    with pytest.raises(ConfigError, match=r"^data\.normalize: an image of 224x224x3 has 150,528 features.*169 GiB"):
        plan_splits(config(call, 224), None)
    plan_splits(config(call, 224, resize=(48, 48)), None)


def test_more_pca_components_than_features_are_refused():
    with pytest.raises(ConfigError, match=r"^data\.normalize: components=28 is more than the 27 features .* 3x3x3"):
        plan_splits(config("whiten(components=28)"), None)
    plan_splits(config("whiten(components=28)", pad=1), None)


@pytest.mark.parametrize("call", ["zca(epsilon=-1)", "pca(0)", "standardize(epsilon=none)", "whiten(components=1.5)"])
def test_the_config_refuses_wrong_preprocessing_options(call: str):
    with pytest.raises(ConfigError, match=r"^data\.normalize\.(epsilon|components): "):
        config(call)


@pytest.mark.parametrize("call", [call for call in CALLS if call != "scale()"])
def test_preprocessing_fit_never_reads_validation_and_test_images(call: str):
    seed = 4
    plan = plan_splits(config(call, validation="10 examples", pad=1), None)
    train = load_splits(plan, ("train",), seed)["train"]
    clean = fit_normalization(plan, train)
    all_images = plan.dataset.load("train")
    training, held_out = validation_indices(40, 10, seed)

    def poison(which: np.ndarray) -> ArraySource:
        images = all_images.images.copy()
        images[which] = 255 - images[which]

        def read(split: str) -> ArraySource:
            assert split == "train", "the test split is read"
            return ArraySource(images, all_images.labels)

        object.__setattr__(plan.dataset, "read", read)
        return load_splits(plan, ("train",), seed)["train"]

    for a, b in zip(leaves(fit_normalization(plan, poison(held_out))), leaves(clean), strict=True):
        np.testing.assert_array_equal(a, b)
    assert matches_normalization(plan, poison(held_out), clean)
    assert not matches_normalization(plan, poison(training[:3]), clean)


def test_mean_image_includes_the_padding():
    plan = plan_splits(config("mean_image", pad=2), None)
    train = load_splits(plan, ("train",), 0)["train"]
    fitted: Any = fit_normalization(plan, train)
    assert fitted.mean.shape == plan.image_shape == (7, 7, 3)
    assert not fitted.mean[:2].any()
    np.testing.assert_allclose(fitted.mean[2:-2, 2:-2], train.images.mean(axis=0) / 255, rtol=1e-12)
