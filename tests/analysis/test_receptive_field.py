"""Receptive fields against Jacobians: they contain all pixels with influence, and are exact for plain windows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.analysis.jaxpr_walk import find_layers
from jaxtrain.analysis.receptive_field import ReceptiveFields
from jaxtrain.nn.pooling import average_pool, pool

Function = Callable[[jax.Array], jax.Array]

EXACT: dict[str, Function] = {
    "slice": lambda x: x[:, 1::2, :-1],
    "pad": lambda x: jnp.pad(x, ((0, 0), (2, 0), (1, 3), (0, 0))),
    "tiles": lambda x: pool(pool(x, "average"), "average", 3),
    "windows": lambda x: average_pool(average_pool(x, 3, 2), 2, 1),
    "transposed": lambda x: x.transpose(0, 3, 2, 1)[..., None].mean(axis=1),
    "joined": lambda x: x[:, 1:] + x[:, :-1],
    "rows": lambda x: x.mean(axis=2),
    "tokens": lambda x: x.reshape(1, -1, 2),
    "split": lambda x: x.reshape(1, 3, 4, 6, 2, 2)[:, :, 1].mean(axis=3),
}
CONTAINED: dict[str, Function] = {
    "flipped": lambda x: x[:, ::-1] + jnp.zeros(()),
    "gathered": lambda x: x[:, jnp.array([3, 0, 7])],
    "unlike": lambda x: x[:, ::2] + x[:, :6],
    "sides joined": lambda x: jnp.concatenate([x, x[:, :5]], axis=1)[:, 2:],
    "summed": lambda x: jnp.cumsum(x, axis=1),
    "sorted": lambda x: x @ jnp.ones((2, 3)),
    "products": lambda x: jnp.einsum("nhwc,nkwc->nhk", x, x),
    "uneven": lambda x: x.reshape(1, 9, 16, 2),
    "tokens and another": lambda x: jnp.concatenate([jnp.ones((1, 1, 2)), x.reshape(1, -1, 2)], axis=1)[:, 5:],
}


def fields_and_seen(function: Function) -> tuple[ReceptiveFields, np.ndarray]:
    """Return the receptive fields of the results and bool[*results, H, W]: whether a result depends on a pixel."""
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (1, 12, 12, 2)), jnp.float32)
    # a dense layer on top, because a mere slice is not a layer
    jaxpr = jax.make_jaxpr(lambda x: function(x)[..., None] @ np.ones((1, 1), np.float32))(x).jaxpr
    jacobian = np.asarray(jax.jit(jax.jacrev(function))(x))
    return find_layers(jaxpr, 0, {})[-1].fields, jacobian.any(axis=(-1, -4))


def rectangles(fields: ReceptiveFields, shape: tuple[int, ...]) -> np.ndarray:
    """Return int[*shape, 2, 2]: begin and end of the field of each element, along both sides."""
    found = np.zeros((*shape, 2, 2), int)
    for index in np.ndindex(shape):
        for side in range(2):
            start = fields.starts[side]
            for i, axis in zip(index, fields.axes, strict=False):
                for factor in reversed(axis):
                    i, own = divmod(i, factor.length)
                    start += own * factor.steps[side] if factor.steps else 0
            found[(*index, side)] = start, start + fields.sizes[side]
    return found


@pytest.mark.parametrize("name", [*EXACT, *CONTAINED])
def test_receptive_fields_contain_the_nonzeros_of_the_jacobian(name: str) -> None:
    function = {**EXACT, **CONTAINED}[name]
    fields, seen = fields_and_seen(function)
    bounds = rectangles(fields, seen.shape[:-2])
    uneven = any(d.steps is None for axis in fields.axes for d in axis)
    for index in np.ndindex(seen.shape[:-2]):
        for side in range(2):
            pixels = np.flatnonzero(seen[index].any(axis=1 - side))
            begin, end = bounds[(*index, side)]
            if uneven and len(pixels):
                end += max(d.spans[side] for axis in fields.axes for d in axis)
            assert not len(pixels) or begin <= pixels[0] <= pixels[-1] < end
            if name in EXACT and len(pixels):
                assert (begin, end) == (pixels[0], pixels[-1] + 1)
