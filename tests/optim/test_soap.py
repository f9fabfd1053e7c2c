"""SOAP in float64 against a loop in numpy, and properties of its bases."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import soap
from tests.optim.test_muon_prodigy import RULES, START, Adam, assert_same, falling_schedule, looped, ours


class Soap:
    """Vyas et al. 2025, algorithms 3 and 4, for one kernel as a matrix; the first step without rotation."""

    def __init__(self, every: int, max_side: int, b1: float = 0.9, b2: float = 0.95, eps: float = 1e-6):
        self.every, self.max_side, self.b1, self.b2, self.eps = every, max_side, b1, b2, eps
        self.m: Any = 0.0
        self.v: Any = 0.0
        self.t = 0
        self.means: list[Any] = [0.0, 0.0]
        self.bases: list[Any] = [None, None]

    def step(self, gradient: np.ndarray) -> np.ndarray:
        g = gradient.reshape(-1, gradient.shape[-1])
        if self.t == 0:
            self.bases = [np.eye(size) for size in g.shape]
        self.t += 1
        left, right = self.bases
        rotated = left.T @ g @ right
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * rotated**2
        mean = left.T @ self.m @ right / (1 - self.b1**self.t)
        step = left @ (mean / (np.sqrt(self.v / (1 - self.b2**self.t)) + self.eps)) @ right.T
        for i, product in enumerate((g @ g.T, g.T @ g)):
            if len(product) > self.max_side:
                continue
            self.means[i] = self.b2 * self.means[i] + (1 - self.b2) * product
            if self.t == 1:
                self.bases[i] = np.linalg.eigh(self.means[i])[1][:, ::-1]
            elif (self.t - 1) % self.every == 0:
                self.bases[i] = np.linalg.qr(self.means[i] @ self.bases[i])[0]
        return step.reshape(gradient.shape)


SOAP_OPTIONS = {"b1": 0.9, "b2": 0.95, "eps": 1e-6}


@pytest.mark.quick_cases("every-1")
@pytest.mark.parametrize(("every", "max_side"), [(1, 100), (3, 100), (3, 3)], ids=["every-1", "every-3", "one-side"])
def test_soap_equals_numpy(every: int, max_side: int):
    """With `max_side` 3 only the columns are rotated."""
    tx = soap(falling_schedule, precondition_every=every, max_side=max_side, weight_decay=RULES, **SOAP_OPTIONS)
    steps: Any = {k: Soap(every, max_side).step for k in ("dense", "conv")}
    steps |= {k: Adam(**SOAP_OPTIONS).step for k in ("bias", "scale")}
    assert_same(ours(tx), looped(steps, {"dense": 0.2}), 1e-9)


def test_soap_without_rotation_equals_adam():
    tx = soap(falling_schedule, max_side=1, **SOAP_OPTIONS)
    assert_same(ours(tx), looped({k: Adam(**SOAP_OPTIONS).step for k in START}))


@functools.cache
def soap_state(steps: int) -> Any:
    """The state for a matrix after some steps along gradients that are larger in some directions than in others."""
    tx = soap(0.0, b2=0.9, precondition_every=2)
    scales = jnp.asarray([[8.0, 4.0, 2.0, 1.0, 0.5]])
    mixing = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0], jnp.float32)

    def body(state: Any, key: jax.Array) -> Any:
        g = (jax.random.normal(key, (4, 5)) * scales) @ mixing
        return tx.update({"w": g}, state, {"w": g})[1], None

    keys = jax.random.split(jax.random.key(0), steps)
    state = jax.jit(lambda: jax.lax.scan(body, tx.init({"w": jnp.zeros((4, 5))}), keys)[0])()
    return jax.tree.map(np.asarray, state[0].leaves["w"])


def test_soap_keeps_orthonormal_bases_that_diagonalize_the_means():
    leaf = soap_state(61)
    for side in (leaf.left, leaf.right):
        np.testing.assert_allclose(side.basis.T @ side.basis, np.eye(len(side.basis)), atol=1e-5)
    inside = leaf.right.basis.T @ leaf.right.mean @ leaf.right.basis

    def off_diagonal(matrix: np.ndarray) -> float:
        return np.linalg.norm(matrix - np.diag(np.diag(matrix))) / np.linalg.norm(matrix)

    assert off_diagonal(inside) < 0.1
    assert off_diagonal(leaf.right.mean) > 0.3
    values = np.diag(inside)
    assert (np.diff(values) < 0).all()  # greatest first, so that V keeps belonging to its directions


@pytest.mark.slow
def test_soap_refreshes_its_bases_every_given_number_of_steps():
    """The first step finds the bases; with `precondition_every` 2 the third and the fifth refresh them."""
    bases = [soap_state(n).right.basis for n in (1, 2, 3, 4)]
    np.testing.assert_array_equal(bases[0], bases[1])
    assert np.abs(bases[1] - bases[2]).max() > 1e-3
    np.testing.assert_array_equal(bases[2], bases[3])


@pytest.mark.slow
def test_soap_accepts_empty_leaves_and_rank_3_kernels():
    """Empty arrays, empty containers and kernels of rank 3."""
    params = {"none": optax.MaskedNode(), "empty": jnp.zeros((0, 3)), "rank3": jnp.ones((2, 3, 2)), "pair": ()}
    tx = soap(0.1)
    updates, state = tx.update(params, tx.init(params), params)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
    assert state[0].leaves["rank3"].left.basis.shape == (6, 6)
