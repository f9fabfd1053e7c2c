"""The MLP that overhead is measured with, and the loops that one would write for it by hand: jax alone."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BATCH, EXAMPLES, LOG_EVERY, TOGETHER = 32, 60_000, 100, 50
RATE, MOMENTUM = 0.01, 0.9


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """uint8[60000, 28, 28, 1] and int32[60000], synthetic."""
    from jaxtrain.data.sources.synthetic import synthetic

    split = synthetic(like="mnist", test_examples=1000).load("train")
    return split.images, split.labels.astype(np.int32)


def initial(widths: list[int]) -> list[dict[str, jax.Array]]:
    """Weights and biases after He."""
    draw = np.random.RandomState(0)
    return [
        {"w": jnp.asarray(draw.randn(m, n).astype(np.float32) * (2 / m) ** 0.5), "b": jnp.zeros(n, jnp.float32)}
        for m, n in itertools.pairwise([784, *widths, 10])
    ]


def _loss(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    logits = x @ params[-1]["w"] + params[-1]["b"]
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()
    return loss, (logits.argmax(-1) == y).mean()


def _step(state: Any, images: jax.Array, labels: jax.Array, index: jax.Array) -> Any:
    """One step: gather, scale, forward, backward, SGD with momentum, metrics."""
    params, velocity, totals = state
    x = images[index].reshape(BATCH, -1).astype(jnp.float32) / 255
    (loss, accuracy), grads = jax.value_and_grad(_loss, has_aux=True)(params, x, labels[index])
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
    params = jax.tree.map(lambda p, v: p - RATE * v, params, velocity)
    return params, velocity, (totals[0] + loss, totals[1] + accuracy)


class Bare:
    """A hand-written loop: the data set on the device, shuffled each epoch, `together` steps a dispatch, donated.

    Every 100 steps the metrics of the 100 before are read.
    """

    def __init__(self, widths: list[int], together: int):
        images, labels = images_and_labels()
        self._images, self._labels = jax.device_put(images), jax.device_put(labels)
        params = initial(widths)
        self._together = together
        self._state = (params, jax.tree.map(jnp.zeros_like, params), self._zero())
        self._dispatch = jax.jit(self._scanned if together > 1 else self._single, donate_argnums=0)
        self._t = 0
        self._waiting: Any = None

    @staticmethod
    def _zero() -> Any:
        return jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)

    def _single(self, state: Any, images: jax.Array, labels: jax.Array, order: jax.Array, i: int) -> Any:
        return _step(state, images, labels, jax.lax.dynamic_slice(order, (i * BATCH,), (BATCH,)))

    def _scanned(self, state: Any, images: jax.Array, labels: jax.Array, order: jax.Array, i: int) -> Any:
        size = self._together * BATCH
        indices = jax.lax.dynamic_slice(order, (i * size,), (size,)).reshape(self._together, BATCH)
        state, _ = jax.lax.scan(lambda s, index: (_step(s, images, labels, index), None), state, indices)
        return state

    def __call__(self, steps: int) -> None:
        """Makes so many steps and waits for them."""
        a_epoch = EXAMPLES // (BATCH * self._together)
        for _ in range(steps // self._together):
            if self._t % a_epoch == 0:
                draw = np.random.RandomState(self._t // a_epoch)
                self._order = jax.device_put(draw.permutation(EXAMPLES).astype(np.int32))
            self._state = self._dispatch(self._state, self._images, self._labels, self._order, self._t % a_epoch)
            self._t += 1
            if self._t * self._together % LOG_EVERY == 0:
                if self._waiting is not None:
                    _ = [float(x) / LOG_EVERY for x in self._waiting]
                self._waiting, self._state = self._state[2], (*self._state[:2], self._zero())
        jax.block_until_ready(self._state)
