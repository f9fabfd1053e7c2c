"""Losses over probabilities in float64 against torch and closed forms: labels, smoothing, gradients, far logits."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.optim import LOSSES
from jaxtrain.optim.losses import Loss, binary_cross_entropy, cross_entropy, focal
from tests.conftest import examples

_rng = np.random.default_rng(0)
LOGITS = 3 * _rng.normal(size=(8, 10))
LABELS = _rng.integers(0, 10, 8).astype(np.int32)
SOFT = _rng.dirichlet(np.ones(10), 8)
LOG_SOFTMAX = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
SIGMOID = 1 / (1 + np.exp(-LOGITS))


def value_and_grad(loss: Loss, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each example, and the gradient of their sum."""
    with jax.enable_x64(True):
        losses, back = jax.vjp(lambda x: loss(x, jnp.asarray(labels)), jnp.asarray(LOGITS))
        (grad,) = back(jnp.ones_like(losses))
        return np.asarray(losses), np.asarray(grad)


def smoothed(labels: np.ndarray, smoothing: float) -> np.ndarray:
    target = np.eye(10)[labels] if labels.ndim == 1 else labels
    return (1 - smoothing) * target + smoothing / 10


def by_torch(torch: Any, loss: Callable[[Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    x = torch.tensor(LOGITS, requires_grad=True)
    losses = loss(x)
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


each_target = pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["integer", "soft"])
each_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
each_focus = pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])


def assert_close(ours: tuple[np.ndarray, np.ndarray], losses: np.ndarray, grad: np.ndarray) -> None:
    assert ours[0].dtype == np.float64
    assert ours[0].shape == (8,)
    # float64 sums of ten terms: an ulp or so each
    np.testing.assert_allclose(ours[0], losses, rtol=1e-13)
    np.testing.assert_allclose(ours[1], grad, rtol=1e-12, atol=1e-15)


@each_target
@each_smoothing
def test_cross_entropy_equals_the_closed_form(smoothing: float, labels: np.ndarray):
    target = smoothed(labels, smoothing)
    expected = -(target * LOG_SOFTMAX).sum(axis=1), np.exp(LOG_SOFTMAX) - target
    assert_close(value_and_grad(cross_entropy(smoothing), labels), *expected)


@each_target
@each_smoothing
def test_cross_entropy_equals_torch(smoothing: float, labels: np.ndarray):
    torch = pytest.importorskip("torch", reason="the oracle is torch's CrossEntropyLoss")
    y = torch.tensor(labels.astype(np.int64) if labels.ndim == 1 else labels)
    theirs = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    assert_close(value_and_grad(cross_entropy(smoothing), labels), *by_torch(torch, lambda x: theirs(x, y)))


@each_target
@each_smoothing
def test_binary_cross_entropy_equals_the_closed_form(smoothing: float, labels: np.ndarray):
    target = smoothed(labels, smoothing)
    losses = -(target * np.log(SIGMOID) + (1 - target) * np.log(1 - SIGMOID)).sum(axis=1)
    assert_close(value_and_grad(binary_cross_entropy(smoothing), labels), losses, SIGMOID - target)


@each_target
@each_smoothing
def test_binary_cross_entropy_equals_the_sum_of_torch_bce(smoothing: float, labels: np.ndarray):
    torch = pytest.importorskip("torch", reason="the oracle is torch's BCEWithLogitsLoss")
    y = torch.tensor(smoothed(labels, smoothing))
    theirs = torch.nn.BCEWithLogitsLoss(reduction="none")
    expected = by_torch(torch, lambda x: 10 * theirs(x, y).mean(dim=1))
    assert_close(value_and_grad(binary_cross_entropy(smoothing), labels), *expected)


@each_target
@each_focus
def test_focal_loss_equals_torch(gamma: float, labels: np.ndarray):
    torch = pytest.importorskip("torch", reason="the oracle is torch's differentiation of the formula")
    y = torch.tensor(smoothed(labels, 0.0))

    def theirs(x: Any) -> Any:
        p = torch.softmax(x, dim=1)
        return -0.25 * (y * (1 - p) ** gamma * torch.log(p)).sum(dim=1)

    assert_close(value_and_grad(focal(gamma, alpha=0.25), labels), *by_torch(torch, theirs))


@each_target
@each_focus
def test_focal_loss_equals_the_closed_form(gamma: float, labels: np.ndarray):
    target, p = smoothed(labels, 0.0), np.exp(LOG_SOFTMAX)
    losses = -(target * (1 - p) ** gamma * LOG_SOFTMAX).sum(axis=1)
    np.testing.assert_allclose(value_and_grad(focal(gamma), labels)[0], losses, rtol=1e-13)


@each_target
def test_focal_loss_with_gamma_zero_equals_cross_entropy(labels: np.ndarray):
    plain = value_and_grad(cross_entropy(), labels)
    for ours, expected in zip(value_and_grad(focal(0.0), labels), plain, strict=True):
        np.testing.assert_array_equal(ours, expected)
    for ours, expected in zip(value_and_grad(focal(0.0, alpha=0.5), labels), plain, strict=True):
        np.testing.assert_array_equal(ours, 0.5 * expected)


@pytest.mark.parametrize("lead", [5.0, 18.0, 40.0])
@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_focal_loss_is_exact_where_the_probability_rounds_to_one(gamma: float, lead: float):
    """For two classes and q = 1 - p = 1 / (1 + e^lead), the loss is -q^gamma log(1 - q), and dq/dlead = -q (1 - q)."""
    q = 1 / (1 + math.exp(lead))
    loss = -(q**gamma) * math.log1p(-q)
    slope = gamma * q**gamma * (1 - q) * math.log1p(-q) - q ** (gamma + 1)
    value, grad = jax.value_and_grad(lambda x: focal(gamma)(x, jnp.array([0]))[0])(jnp.array([[lead, 0.0]]))
    # float32: an exponential of 80 has a relative error of 80 ulp
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(grad, [[slope, -slope]], rtol=1e-5)


@pytest.mark.slow
@examples(50)
@given(
    logits=st.lists(st.floats(-80, 80, width=32), min_size=4, max_size=4),
    label=st.integers(0, 3),
    gamma=st.sampled_from([0.25, 2.0]),
)
def test_focal_loss_equals_the_formula_for_logits_of_any_size(logits: list[float], label: int, gamma: float):
    """The value equals the formula in float64; first and second derivatives are finite."""
    value, slope, curvature = _focal_at[gamma](jnp.array(logits, jnp.float32), jnp.int32(label))
    lead = logits[label] - np.logaddexp.reduce(np.delete(logits, label))
    expected = np.exp(-gamma * np.logaddexp(0, lead)) * np.logaddexp(0, -lead)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-37)  # float32 has 80 to 8e-6, which are exponents
    assert np.isfinite(slope).all()
    assert np.isfinite(curvature).all()


def _focal_and_derivatives(gamma: float) -> Callable[[jax.Array, jax.Array], Any]:
    def value(x: jax.Array, label: jax.Array) -> jax.Array:
        return focal(gamma)(x[None], label[None])[0]

    return jax.jit(lambda x, label: (value(x, label), jax.grad(value)(x, label), jax.hessian(value)(x, label)))


_focal_at = {gamma: _focal_and_derivatives(gamma) for gamma in (0.25, 2.0)}


@pytest.mark.quick_cases("10-0.1")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [10, 1000])
def test_losses_of_equal_logits_equal_their_closed_forms(classes: int, smoothing: float):
    logits, labels = np.zeros((3, classes), np.float32), np.array([0, 1, classes - 1], np.int32)
    smooth, binary = jax.jit(cross_entropy(smoothing)), jax.jit(binary_cross_entropy(smoothing))
    np.testing.assert_allclose(smooth(logits, labels), math.log(classes), rtol=1e-6)
    np.testing.assert_allclose(binary(logits, labels), classes * math.log(2), rtol=1e-6)
    focused = (1 - 1 / classes) ** 2 * math.log(classes)
    np.testing.assert_allclose(jax.jit(focal())(logits, labels), focused, rtol=1e-6)


@pytest.mark.parametrize("labels", [np.int32([0, 1]), np.float32([[1, 0], [0, 1]])], ids=["integer", "soft"])
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "focal"])
def test_loss_does_not_overflow_for_large_logits(name: str, labels: np.ndarray):
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])

    @jax.jit
    def both(x: jax.Array) -> Any:
        losses, back = jax.vjp(lambda x: LOSSES.create(name)(x, jnp.asarray(labels)), x)
        return losses, back(jnp.ones(2))[0]

    losses, gradient = both(logits)
    np.testing.assert_allclose(losses, [0, 2e4])
    np.testing.assert_allclose(gradient, [[0, 0], [1, -1]])


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_loss_returns_finite_float32_values_for_each_example(name: str, dtype: Any):
    """A finite float32 value for each example, also inside jit, whatever integers the labels are."""
    loss = LOSSES.create(name)
    logits, labels = LOGITS.astype(np.float32), LABELS.astype(dtype)
    eager, jitted = loss(jnp.asarray(logits), jnp.asarray(labels)), jax.jit(loss)(logits, labels)
    assert (eager.shape, eager.dtype) == ((8,), jnp.float32)
    assert np.isfinite(eager).all()
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(LOSSES.names()) - {"cross_entropy"}))
def test_loss_with_uint8_labels_handles_more_than_256_classes(name: str):
    """Class 256 must not wrap around to class 0."""
    labels = np.zeros(1, np.uint8)
    one, other = (
        jax.jit(LOSSES.create(name))(np.zeros((1, 300), np.float32), x) for x in (labels, labels.astype(np.int32))
    )
    np.testing.assert_array_equal(one, other)
