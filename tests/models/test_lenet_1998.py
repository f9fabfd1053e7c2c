"""LeNet-5 as published, against a numpy loop over its maps; its table of connections and its templates."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import correlate2d

from jaxtrain.models.lenet_1998 import CONNECTIONS, lenet5_1998, templates


def squash(x: np.ndarray) -> np.ndarray:
    return 1.7159 * np.tanh(2 / 3 * x)


def by_hand(params: dict[str, dict[str, np.ndarray]], image: np.ndarray) -> np.ndarray:
    """Return f64[10], the negative squared distances of one image f[32, 32], computed map by map."""
    maps = [
        squash(correlate2d(image, params["c1"]["kernel"][:, :, 0, m], "valid") + params["c1"]["bias"][m])
        for m in range(6)
    ]
    maps = [
        squash(params["s2"]["coefficient"][m] * x.reshape(14, 2, 14, 2).sum(axis=(1, 3)) + params["s2"]["bias"][m])
        for m, x in enumerate(maps)
    ]
    kernels = iter(np.moveaxis(params["c3"]["kernel"], -1, 0))
    maps = [
        squash(sum(correlate2d(maps[i], next(kernels), "valid") for i in seen) + params["c3"]["bias"][m])
        for m, seen in enumerate(CONNECTIONS)
    ]
    maps = [
        squash(params["s4"]["coefficient"][m] * x.reshape(5, 2, 5, 2).sum(axis=(1, 3)) + params["s4"]["bias"][m])
        for m, x in enumerate(maps)
    ]
    c5 = squash(np.einsum("mhw,hwmo->o", np.stack(maps), params["c5"]["kernel"]) + params["c5"]["bias"])
    f6 = squash(c5 @ params["f6"]["kernel"] + params["f6"]["bias"])
    return -np.square(f6 - templates("digits", 10)).sum(axis=1)


def test_lenet5_1998_logits_equal_a_numpy_loop_over_maps() -> None:
    model = lenet5_1998(num_classes=10)
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False))["params"]
    params = jax.tree.map(lambda s: 0.2 * rng.normal(size=s.shape), abstract)
    images = rng.normal(size=(2, 32, 32, 1))
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    found = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False))(single, images.astype(np.float32))
    expected = np.stack([by_hand(params, image[..., 0]) for image in images])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_lenet5_1998_has_the_published_parameters_and_connections() -> None:
    """The paper's own figures, section II.B."""
    shapes = jax.eval_shape(
        lambda: lenet5_1998(num_classes=10).init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
    )["params"]
    counts = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in shapes.items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    connections = {
        "c1": counts["c1"] * 28**2,
        "s2": 6 * 14**2 * 5,
        "c3": counts["c3"] * 10**2,
        "s4": 16 * 5**2 * 5,
        "c5": counts["c5"],
        "f6": counts["f6"],
        "rbf": templates("digits", 10).size,
    }
    assert connections["c1"] == 122_304
    assert sum(connections.values()) == 340_908


def test_lenet5_1998_connection_table_has_the_published_pattern() -> None:
    assert [len(seen) for seen in CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    assert sum(map(len, CONNECTIONS)) == 60
    assert len({frozenset(seen) for seen in CONNECTIONS}) == 16
    each = [sum(m in seen for seen in CONNECTIONS) for m in range(6)]
    assert each == [10] * 6


def test_lenet5_1998_templates_are_distinct_vectors_of_1_and_minus_1() -> None:
    for kind, classes in (("digits", 10), ("random", 40)):
        found = templates(kind, classes)
        assert (found.shape, found.dtype) == ((classes, 84), np.float32)
        assert set(np.unique(found)) == {-1, 1}
        assert len(np.unique(found, axis=0)) == classes
    np.testing.assert_array_equal(templates("random", 5), templates("random", 5))
