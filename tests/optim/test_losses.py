"""Cross-entropy in float64 against torch and a closed form: labels, probabilities, smoothing, gradients."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.optim import LOSSES
from jaxtrain.optim.losses import cross_entropy

_rng = np.random.default_rng(0)
LOGITS = 3 * _rng.normal(size=(8, 10))
LABELS = _rng.integers(0, 10, 8).astype(np.int32)
SOFT = _rng.dirichlet(np.ones(10), 8)


def value_and_grad(smoothing: float, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A loss for each example, and the gradient of their sum."""
    loss = cross_entropy(smoothing)
    with jax.enable_x64(True):
        losses, back = jax.vjp(lambda x: loss(x, jnp.asarray(labels)), jnp.asarray(LOGITS))
        (grad,) = back(jnp.ones_like(losses))
        return np.asarray(losses), np.asarray(grad)


each_target = pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["integer", "soft"])
each_smoothing = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])


def assert_close(ours: tuple[np.ndarray, np.ndarray], losses: np.ndarray, grad: np.ndarray) -> None:
    assert ours[0].dtype == np.float64
    assert ours[0].shape == (8,)
    # float64 sums of ten terms: an ulp or so each
    np.testing.assert_allclose(ours[0], losses, rtol=1e-13)
    np.testing.assert_allclose(ours[1], grad, rtol=1e-12, atol=1e-15)


@each_target
@each_smoothing
def test_equals_the_closed_form(smoothing: float, labels: np.ndarray):
    target = np.eye(10)[labels] if labels.ndim == 1 else labels
    target = (1 - smoothing) * target + smoothing / 10
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    assert_close(value_and_grad(smoothing, labels), -(target * log_softmax).sum(axis=1), np.exp(log_softmax) - target)


@each_target
@each_smoothing
def test_equals_torch(smoothing: float, labels: np.ndarray):
    torch = pytest.importorskip("torch", reason="the oracle is torch's CrossEntropyLoss")
    x = torch.tensor(LOGITS, requires_grad=True)
    y = torch.tensor(labels.astype(np.int64) if labels.ndim == 1 else labels)
    theirs = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)(x, y)
    theirs.sum().backward()
    assert_close(value_and_grad(smoothing, labels), theirs.detach().numpy(), x.grad.numpy())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [10, 1000])
def test_equal_logits_cost_log_k(classes: int, smoothing: float):
    losses = cross_entropy(smoothing)(jnp.zeros((3, classes)), jnp.array([0, 1, classes - 1]))
    np.testing.assert_allclose(losses, math.log(classes), rtol=1e-6)


@pytest.mark.parametrize("labels", [np.int32([0, 1]), np.float32([[1, 0], [0, 1]])], ids=["integer", "soft"])
def test_large_logits_do_not_overflow(labels: np.ndarray):
    logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
    losses, back = jax.vjp(lambda x: cross_entropy()(x, jnp.asarray(labels)), logits)
    np.testing.assert_allclose(losses, [0, 2e4])
    np.testing.assert_allclose(back(jnp.ones(2))[0], [[0, 0], [1, -1]])


@pytest.mark.parametrize("name", LOSSES.names())
@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_contract_of_every_loss(name: str, dtype: Any):
    """A finite float32 value for each example, also inside jit, whatever integers the labels are."""
    loss = LOSSES.create(name)
    logits, labels = LOGITS.astype(np.float32), LABELS.astype(dtype)
    eager, jitted = loss(jnp.asarray(logits), jnp.asarray(labels)), jax.jit(loss)(logits, labels)
    assert (eager.shape, eager.dtype) == ((8,), jnp.float32)
    assert np.isfinite(eager).all()
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)
