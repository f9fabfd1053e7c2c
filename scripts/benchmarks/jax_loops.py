"""Loops of plain jax around our nets: the careful one, and flax's example. `advance(steps)` makes steps and waits."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state

from benchmarks import measuring
from benchmarks.nets import Net


def _begun(net: Net) -> tuple[Any, Any]:
    """The Linen module and its variables."""
    from jaxtrain.config import ModelSpec

    model = ModelSpec.parse(net.model).build(num_classes=net.classes)
    images = jnp.zeros((1, *net.shape), jnp.float32)
    return model, dict(jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0)))


def _loss(model: Any, params: Any, rest: Any, images: jax.Array, labels: jax.Array) -> Any:
    logits, rest = model.apply({"params": params, **rest}, images, train=True, mutable=tuple(rest))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (logits, rest)


def careful(net: Net, batch: int) -> measuring.Advance:
    """One donated jit a step; images on the device as uint8, shuffled each epoch; metrics read 100 steps late."""
    model, variables = _begun(net)
    tx = optax.sgd(0.01, momentum=0.9)

    def step(state: Any, images: jax.Array, labels: jax.Array, order: jax.Array, i: int) -> Any:
        params, rest, opt_state, totals = state
        index = jax.lax.dynamic_slice(order, (i * batch,), (batch,))
        x, y = images[index].astype(jnp.float32) / 255, labels[index]
        (loss, (logits, rest)), grads = jax.value_and_grad(_loss, argnums=1, has_aux=True)(model, params, rest, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        totals = (totals[0] + loss, totals[1] + (logits.argmax(-1) == y).mean())
        return optax.apply_updates(params, updates), rest, opt_state, totals

    def zero() -> Any:
        return jnp.zeros(()), jnp.zeros(())

    params = variables.pop("params")
    dispatch = jax.jit(step, donate_argnums=0)
    images, labels = map(jax.device_put, net.data())
    waiting: Any = None
    state, t, order = (params, variables, tx.init(params), zero()), 0, None

    def advance(steps: int) -> None:
        nonlocal state, waiting, t, order
        for _ in range(steps):
            place = t % (net.examples // batch)
            if order is None or place == 0:
                order = jax.device_put(np.random.RandomState(t).permutation(net.examples).astype(np.int32))
            state = dispatch(state, images, labels, order, place)
            t += 1
            if t % 100 == 0:
                _ = [] if waiting is None else [float(x) for x in waiting]
                waiting, state = state[3], (*state[:3], zero())
        jax.block_until_ready(state)

    return advance


class _State(train_state.TrainState):
    batch_stats: Any = None


def flax_example(net: Net, batch: int) -> measuring.Advance:
    """After the structure of flax's MNIST example: two jitted functions a step, floats, permuted on the device each
    epoch, metrics of every batch kept and read at its end, nothing donated.
    """
    model, variables = _begun(net)

    @jax.jit
    def apply_model(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss_of(params: Any) -> Any:
            return _loss(model, params, state.batch_stats, images, labels)

        (loss, (logits, rest)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        return grads, rest, loss, jnp.mean(jnp.argmax(logits, -1) == labels)

    @jax.jit
    def update_model(state: Any, grads: Any, rest: Any) -> Any:
        return state.apply_gradients(grads=grads, batch_stats=rest)

    images, labels = net.data()
    data = jnp.asarray(images, jnp.float32) / 255.0, jnp.asarray(labels)
    params = variables.pop("params")
    state: Any = _State.create(  # type: ignore[no-untyped-call]
        apply_fn=model.apply, params=params, tx=optax.sgd(0.01, 0.9), batch_stats=variables
    )
    rng = jax.random.key(0)
    seen: list[Any] = []

    def batches() -> Iterator[jax.Array]:
        nonlocal rng
        while True:
            rng, key = jax.random.split(rng)
            steps = net.examples // batch
            yield from jax.random.permutation(key, net.examples)[: steps * batch].reshape(steps, batch)
            _ = [float(np.mean(values)) for values in zip(*seen, strict=True)]
            seen.clear()

    stream = batches()

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            index = next(stream)
            grads, rest, loss, accuracy = apply_model(state, data[0][index], data[1][index])
            state = update_model(state, grads, rest)
            seen.append((loss, accuracy))
        jax.block_until_ready(state.params)

    return advance
