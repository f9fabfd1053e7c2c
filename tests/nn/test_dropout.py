"""Dropout in all forms, Gaussian noise and shake-shake: fixed masks, enumeration of all masks, torch and flax."""

import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.nn.dropout import (
    Dropout,
    DropoutKind,
    alpha_dropout,
    alpha_dropout_given,
    draw_dropout_mask,
    dropout,
    dropout_given,
    gaussian_dropout,
    gaussian_dropout_given,
)
from jaxtrain.nn.gaussian_noise import GaussianNoise, gaussian_noise_given
from jaxtrain.nn.shake_shake import ShakeShake, shake, shake_given
from jaxtrain.nn.stochastic_depth import Scaling

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3, 5, 8)).astype(np.float32)


def all_gates(count: int, rate: float) -> Iterator[tuple[np.ndarray, float]]:
    """Yield every mask and its probability."""
    for gates in itertools.product([False, True], repeat=count):
        kept = np.array(gates)
        yield kept, float(np.where(kept, 1 - rate, rate).prod())


@pytest.mark.parametrize("scaling", ["in_training", "at_test"])
def test_dropout_passes_or_zeroes_values_and_gradients_by_mask(scaling: Scaling) -> None:
    kept = RNG.random(X.shape) < 0.7
    poisoned = np.where(kept, X, np.nan).astype(np.float32)  # dropped values must not be read
    found, back = jax.vjp(lambda x: dropout_given(jnp.asarray(kept), x, 0.25, scaling), jnp.asarray(poisoned))
    scale = np.float32(1 / 0.75 if scaling == "in_training" else 1)
    np.testing.assert_allclose(found, np.where(kept, X * scale, 0), rtol=2e-7)
    (gradient,) = back(jnp.ones_like(found))
    np.testing.assert_allclose(gradient, np.where(kept, scale, 0), rtol=2e-7)
    assert not np.asarray(gradient)[~kept].any()


@pytest.mark.parametrize("kind", ["inverted", "vanilla"])
def test_dropout_mean_over_all_masks_equals_the_test_output(kind: DropoutKind) -> None:
    """Ten inputs give 1,024 masks, each with its probability."""
    rate = 0.3
    x, w = RNG.normal(size=(2, 10))
    gates = list(all_gates(10, rate))
    with jax.enable_x64(True):
        scaling: Scaling = "at_test" if kind == "vanilla" else "in_training"
        outputs = dropout_given(jnp.array([kept for kept, _ in gates]), jnp.asarray(x)[None], rate, scaling) @ w
        tested = Dropout(train=False, rate=rate, kind=kind).apply({}, jnp.asarray(x)[None]) @ w
    probabilities = np.array([p for _, p in gates])
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(probabilities @ np.asarray(outputs), tested[0], rtol=1e-12)


def test_vanilla_dropout_at_rate_half_gives_half_the_sum_at_test() -> None:
    """For a unit with weights w1, w2 the mean over four masks is (w1 x + w2 y) / 2, the output at test."""
    w, x = np.array([3.0, -5.0], np.float32), np.array([2.0, 7.0], np.float32)
    masked = [
        float(dropout_given(jnp.asarray(kept), jnp.asarray(x), 0.5, "at_test") @ w) for kept, _ in all_gates(2, 0.5)
    ]
    assert sorted(masked) == [-35.0, -29.0, 0.0, 6.0]
    assert np.mean(masked) == (3 * 2 - 5 * 7) / 2
    assert Dropout(train=False, rate=0.5, kind="vanilla").apply({}, jnp.asarray(x)[None])[0] @ w == np.mean(masked)


def test_inverted_dropout_equals_flax_for_the_same_mask() -> None:
    theirs = nn.Dropout(0.3, deterministic=False).apply({}, jnp.asarray(X), rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(theirs) != 0
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(dropout_given(kept, jnp.asarray(X), 0.3), theirs)


def test_dropout_rate_is_the_fraction_of_dropped_values() -> None:
    """480 draws for each of 40 keys: six standard deviations, a chance of 2e-9 for a right one."""
    keys = jax.random.split(jax.random.key(2), 40)
    kept = np.asarray(jax.jit(jax.vmap(lambda k: draw_dropout_mask(k, X, 0.2)))(keys))
    assert abs(kept.mean() - 0.8) < 6 * math.sqrt(0.2 * 0.8 / kept.size)


def test_spatial_dropout_drops_whole_channels_of_an_example() -> None:
    found = np.asarray(dropout(jax.random.key(3), jnp.ones_like(X), 0.5, spatial=True))
    assert (found == found[:, :1, :1]).all()
    assert set(np.unique(found)) == {0, 2}
    assert len(np.unique(found[:, 0, 0], axis=0)) == 4  # two examples alike: a chance of 6 / 256
    layer = Dropout(train=True, rate=0.5, kind="spatial")
    drawn = np.asarray(layer.apply({}, jnp.ones_like(X), rngs={"dropout": jax.random.key(3)}))
    assert (drawn == drawn[:, :1, :1]).all()


@pytest.mark.slow
def test_dropout_mask_of_an_example_is_independent_of_the_batch_size() -> None:
    for spatial in (False, True):
        whole, part = (draw_dropout_mask(jax.random.key(4), X[:n], 0.5, spatial=spatial) for n in (4, 2))
        np.testing.assert_array_equal(whole[:2], part)


def test_gaussian_dropout_has_the_moments_of_dropout() -> None:
    noise = RNG.normal(size=X.shape).astype(np.float32)
    found, back = jax.vjp(lambda x: gaussian_dropout_given(jnp.asarray(noise), x, 0.2), jnp.asarray(X))
    np.testing.assert_allclose(found, X * (1 + 0.5 * noise), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back(jnp.ones_like(found))[0], 1 + 0.5 * noise, rtol=1e-5, atol=1e-6)
    drawn = np.asarray(gaussian_dropout(jax.random.key(5), jnp.ones((40_000,)), 0.2))
    assert abs(drawn.mean() - 1) < 6 * 0.5 / 200  # six deviations of the mean, and of the variance
    assert abs(drawn.var() - 0.25) < 6 * 0.25 * math.sqrt(2) / 200


def test_alpha_dropout_equals_torch_and_keeps_mean_and_variance() -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    x = torch.tensor(X)
    torch.manual_seed(0)
    theirs = torch.nn.functional.alpha_dropout(x, 0.2, training=True).numpy()
    dropped = theirs == np.unique(theirs, return_counts=True)[0][np.unique(theirs, return_counts=True)[1].argmax()]
    assert 0.1 < dropped.mean() < 0.3
    found = alpha_dropout_given(jnp.asarray(~dropped), jnp.asarray(X), 0.2)
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)
    normal = jax.random.normal(jax.random.key(6), (40_000,))
    drawn = np.asarray(alpha_dropout(jax.random.key(7), normal, 0.2))
    assert abs(drawn.mean()) < 6 / 200
    assert abs(drawn.var() - 1) < 6 * 2 / 200  # the fourth moment is below 5


@pytest.mark.parametrize("kind", ["inverted", "vanilla", "spatial", "gaussian", "alpha"])
def test_dropout_needs_no_random_key_at_test_or_rate_0(kind: DropoutKind) -> None:
    tested = Dropout(train=False, rate=0.4, kind=kind).apply({}, jnp.asarray(X))
    np.testing.assert_allclose(tested, X * np.float32(0.6) if kind == "vanilla" else X, rtol=1e-7)
    np.testing.assert_array_equal(Dropout(train=True, rate=0.0, kind=kind).apply({}, jnp.asarray(X)), X)
    for rate in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"rate of {rate} is out of range: .*being dropped"):
            Dropout(train=True, rate=rate, kind=kind).apply({}, jnp.asarray(X), rngs={"dropout": jax.random.key(0)})
    low = jax.eval_shape(
        lambda k: Dropout(True, 0.4, kind).apply({}, jnp.ones((2, 3), jnp.bfloat16), rngs={"dropout": k}),
        jax.random.key(0),
    )
    assert low.dtype == jnp.bfloat16


def test_gaussian_noise_is_added_only_in_training() -> None:
    noise = RNG.normal(size=X.shape).astype(np.float32)
    np.testing.assert_allclose(
        gaussian_noise_given(jnp.asarray(noise), jnp.asarray(X), 0.1), X + 0.1 * noise, rtol=1e-4
    )
    np.testing.assert_array_equal(GaussianNoise(train=False, deviation=0.1).apply({}, jnp.asarray(X)), X)
    layer = GaussianNoise(train=True, deviation=0.5)
    drawn = np.asarray(layer.apply({}, jnp.zeros((40_000,)), rngs={"dropout": jax.random.key(8)}))
    assert abs(drawn.mean()) < 6 * 0.5 / 200
    assert abs(drawn.var() - 0.25) < 6 * 0.25 * math.sqrt(2) / 200


A, B = X, RNG.normal(size=X.shape).astype(np.float32)


def test_shake_shake_mixes_values_by_alpha_and_gradients_by_beta() -> None:
    alpha, beta = (RNG.random((4, 1, 1, 1)).astype(np.float32) for _ in range(2))
    cotangent = RNG.normal(size=X.shape).astype(np.float32)
    found, back = jax.vjp(shake_given, *map(jnp.asarray, (alpha, beta, A, B)))
    np.testing.assert_allclose(found, alpha * A + (1 - alpha) * B, rtol=1e-5, atol=1e-6)
    of_alpha, of_beta, of_a, of_b = back(jnp.asarray(cotangent))
    np.testing.assert_array_equal(of_a, beta * cotangent)
    np.testing.assert_array_equal(of_b, (1 - beta) * cotangent)
    assert not of_alpha.any()
    assert not of_beta.any()
    _, forward = jax.jvp(lambda a: shake_given(alpha, beta, a, jnp.asarray(B)), (jnp.asarray(A),), (jnp.asarray(A),))
    np.testing.assert_array_equal(forward, beta * A)


@pytest.mark.parametrize("per_example", [True, False])
def test_shake_shake_variants_draw_alpha_and_beta_as_documented(per_example: bool) -> None:
    """With branches 1 and 0 the output is alpha, and the gradients are beta and 1 - beta."""

    def numbers(forward: str, backward: str) -> tuple[np.ndarray, np.ndarray]:
        run = lambda a, b: shake(jax.random.key(9), a, b, forward, backward, per_example=per_example)  # noqa: E731
        alpha, back = jax.vjp(run, jnp.ones((6, 2)), jnp.zeros((6, 2)))
        beta, rest = back(jnp.ones((6, 2)))
        np.testing.assert_allclose(beta + rest, 1, rtol=1e-6)
        assert (alpha[:, 0] == alpha[:, 1]).all()
        return np.asarray(alpha[:, 0]), np.asarray(beta[:, 0])

    alpha, beta = numbers("shake", "shake")
    assert len(np.unique(alpha)) == len(np.unique(beta)) == (6 if per_example else 1)
    assert (alpha != beta).all()
    kept_alpha, kept_beta = numbers("shake", "keep")
    np.testing.assert_array_equal(kept_alpha, alpha)
    np.testing.assert_array_equal(kept_beta, alpha)
    even, shaken = numbers("even", "shake")
    assert (even == 0.5).all()
    np.testing.assert_array_equal(shaken, beta)
    assert (numbers("shake", "even")[1] == 0.5).all()


def test_shake_shake_at_test_equals_the_mean_over_draws() -> None:
    """E alpha = 1/2: 3,000 draws within six standard deviations of a uniform number."""
    tested = ShakeShake(train=False).apply({}, jnp.asarray(A), jnp.asarray(B))
    np.testing.assert_allclose(tested, (A + B) / 2, rtol=1e-5, atol=1e-6)
    layer = ShakeShake(train=True)
    drawn = layer.apply({}, jnp.ones((3000, 1)), jnp.zeros((3000, 1)), rngs={"dropout": jax.random.key(10)})
    assert abs(np.mean(drawn) - 0.5) < 6 / math.sqrt(12 * 3000)
