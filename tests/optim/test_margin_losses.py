"""Hinge and template losses in float64 against torch and against loops written from the formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxtrain.optim import LOSSES
from jaxtrain.optim.losses import Loss
from jaxtrain.optim.margin_losses import hinge, squared_hinge, template_mse
from tests.conftest import examples

_rng = np.random.default_rng(0)
SCORES = 2 * _rng.normal(size=(6, 5))
LABELS = np.array([0, 4, 2, 2, 1, 3], np.int32)
TEMPLATES = tuple(map(tuple, _rng.choice([-1.0, 1.0], size=(5, 7)).tolist()))

each_margin = pytest.mark.parametrize("margin", [1.0, 0.3])
each_power = pytest.mark.parametrize(("factory", "power"), [(hinge, 1), (squared_hinge, 2)])


def value_and_grad(loss: Loss, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with jax.enable_x64(True):
        losses, back = jax.vjp(lambda x: loss(x, jnp.asarray(LABELS)), jnp.asarray(outputs))
        (grad,) = back(jnp.ones_like(losses))
    assert losses.dtype == np.float64
    return np.asarray(losses), np.asarray(grad)


def by_loop(scores: np.ndarray, labels: np.ndarray, margin: float, power: int) -> np.ndarray:
    losses = np.zeros(len(labels))
    for i, y in enumerate(labels):
        for j in range(scores.shape[1]):
            if j != y:
                losses[i] += max(0.0, scores[i, j] - scores[i, y] + margin) ** power
    return losses


@each_margin
@each_power
def test_hinge_loss_equals_torch_multi_margin_loss_times_the_classes(factory: Any, power: int, margin: float):
    torch = pytest.importorskip("torch", reason="the oracle is torch's MultiMarginLoss")
    x = torch.tensor(SCORES, requires_grad=True)
    theirs = torch.nn.MultiMarginLoss(p=power, margin=margin, reduction="none")
    losses = 5 * theirs(x, torch.tensor(LABELS.astype(np.int64)))
    losses.sum().backward()
    ours = value_and_grad(factory(margin), SCORES)
    np.testing.assert_allclose(ours[0], losses.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(ours[1], x.grad.numpy(), rtol=1e-13, atol=1e-15)


@each_margin
@each_power
def test_hinge_loss_sums_the_violations_of_all_wrong_classes(factory: Any, power: int, margin: float):
    ours = value_and_grad(factory(margin), SCORES)[0]
    expected = by_loop(SCORES, LABELS, margin, power)
    np.testing.assert_allclose(ours, expected, rtol=1e-14)
    worst = [max(0.0, *(np.delete(s, y) - s[y] + margin)) ** power for s, y in zip(SCORES, LABELS, strict=True)]
    assert (expected > np.array(worst) + 1e-3).any()  # the sum, not the largest


def test_hinge_loss_equals_the_worked_example_of_cs231n():
    """The scores of the lectures' cat, car and frog: 2.9, 0 and 12.9."""
    scores = jnp.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    np.testing.assert_allclose(hinge()(scores, jnp.array([0, 1, 2])), [2.9, 0.0, 12.9], rtol=1e-6, atol=1e-6)


@each_power
def test_hinge_loss_of_equal_scores_is_the_full_margin_per_class(factory: Any, power: int):
    np.testing.assert_allclose(factory(0.5)(jnp.zeros((2, 4)), jnp.array([0, 3])), 3 * 0.5**power)


def test_hinge_loss_has_zero_gradient_where_the_margin_is_just_met():
    grad = jax.grad(lambda x: hinge()(x, jnp.array([0]))[0])(jnp.array([[1.0, 0.0, 0.5]]))
    np.testing.assert_array_equal(grad, [[-1.0, 0.0, 1.0]])


@examples(40)
@given(arrays.arrays(np.float32, (6, 5), elements=st.floats(-50, 50, width=32)))
def test_hinge_loss_is_nonnegative_and_invariant_to_shifted_scores(scores: np.ndarray):
    """The loss equals the loop, is the same for shifted scores, and is never negative."""
    losses = np.asarray(_HINGE(scores, LABELS))
    np.testing.assert_allclose(losses, by_loop(scores.astype(np.float64), LABELS, 1.0, 1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(_HINGE(scores + np.float32(8), LABELS), losses, rtol=1e-5, atol=1e-3)
    assert (losses >= 0).all()


_HINGE = jax.jit(hinge())


@pytest.mark.parametrize("options", [{}, {"on": 2.0, "off": 0.5}, {"templates": TEMPLATES}], ids=str)
def test_template_mse_equals_a_numpy_loop(options: dict[str, Any]):
    on, off = options.get("on", 1.0), options.get("off", -1.0)
    default = [[on if j == k else off for j in range(5)] for k in range(5)]
    rows = np.array(options.get("templates", default))[LABELS]
    outputs = _rng.normal(size=rows.shape)
    losses, grad = value_and_grad(template_mse(**options), outputs)
    np.testing.assert_allclose(losses, [sum(d**2 for d in difference) for difference in outputs - rows], rtol=1e-14)
    np.testing.assert_allclose(grad, 2 * (outputs - rows), rtol=1e-14)


def test_template_mse_is_zero_at_the_template():
    outputs = jnp.asarray(TEMPLATES, jnp.float32)
    np.testing.assert_array_equal(template_mse(TEMPLATES)(outputs, jnp.arange(5)), np.zeros(5))


def test_template_mse_is_nan_for_a_class_without_a_template():
    losses = template_mse(TEMPLATES[:4])(jnp.zeros((2, 7)), jnp.array([3, 4]))
    np.testing.assert_array_equal(np.isnan(losses), [False, True])


def test_template_mse_refuses_templates_of_wrong_length():
    with pytest.raises(ValueError, match=r"equal length.*\[2, 1\]"):
        template_mse(((1.0, 0.0), (1.0,)))
    with pytest.raises(ValueError, match="equal length"):
        template_mse(())
    with pytest.raises(ValueError, match="7 values each and the model has 5 outputs"):
        template_mse(TEMPLATES)(jnp.zeros((2, 5)), jnp.array([0, 1]))


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "template_mse"])
def test_margin_losses_refuse_soft_labels(name: str):
    with pytest.raises(ValueError, match="class indices"):
        LOSSES.create(name)(jnp.zeros((2, 5)), jnp.full((2, 5), 0.2))
