"""Fractional max pooling bitwise against torch, against numpy loops, and the distribution of its sequences."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.models import MODELS
from jaxtrain.models.outputs import features
from jaxtrain.nn.fractional_pooling import FractionalMaxPool, Shared, fractional_max_pool, fractional_max_pool_given
from jaxtrain.nn.fractional_regions import (
    RegionKind,
    SequenceKind,
    boundaries,
    count_regions,
    draw_shape,
    pooling_intervals,
    random_sequence,
    window_starts,
)
from jaxtrain.nn.marginalization import marginalize

RNG = np.random.default_rng(0)
KINDS: list[tuple[RegionKind, SequenceKind]] = list(
    itertools.product(["windows", "overlapping", "disjoint"], ["random", "pseudorandom"])
)


def numpy_pool(x: np.ndarray, rows: list[range], columns: list[range]) -> np.ndarray:
    tiles = [[x[:, r.start : r.stop, c.start : c.stop].max(axis=(1, 2)) for c in columns] for r in rows]
    return np.array(tiles).transpose(2, 0, 1, 3)


@pytest.mark.quick_cases("7-12-*")
@pytest.mark.parametrize(("h", "w", "places", "window"), [(25, 17, (17, 12), 2), (7, 12, (1, 5), 3)])
def test_fractional_pooling_equals_torch_for_the_same_samples(
    h: int, w: int, places: tuple[int, int], window: int
) -> None:
    """Bitwise; among equal values the first gets the gradient; one value is NaN."""
    torch = pytest.importorskip("torch", reason="the oracle is torch")
    x = RNG.integers(-3, 4, size=(3, h, w, 4)).astype(np.float32)
    x[1, 0, 1, 2] = np.nan
    u = RNG.random((3, 4, 2), np.float32)
    theirs_x = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    theirs = torch.nn.functional.fractional_max_pool2d(
        theirs_x, window, output_size=places, _random_samples=torch.tensor(u)
    )
    cotangent = RNG.integers(1, 9, size=(3, *places, 4)).astype(np.float32)
    theirs.backward(torch.tensor(cotangent.transpose(0, 3, 1, 2)))

    def ours(x: jax.Array) -> jax.Array:
        rows = pooling_intervals(jnp.asarray(u[..., 1]), h, places[0], "windows", "pseudorandom", window)
        columns = pooling_intervals(jnp.asarray(u[..., 0]), w, places[1], "windows", "pseudorandom", window)
        return fractional_max_pool_given(rows, columns, x)

    found, back = jax.vjp(jax.jit(ours), jnp.asarray(x))
    np.testing.assert_array_equal(np.asarray(found).transpose(0, 3, 1, 2), theirs.detach().numpy())
    (gradient,) = back(jnp.asarray(cotangent))
    np.testing.assert_array_equal(np.asarray(gradient).transpose(0, 3, 1, 2), theirs_x.grad.numpy())


@pytest.mark.parametrize("size", [36, 94, 224])
def test_window_starts_equal_the_formula_of_torch(size: int) -> None:
    """The expected values are torch's formula in float32, computed by numpy."""
    u = RNG.random(500, np.float32)
    for places in (count_regions(size, r) for r in (1.2, math.sqrt(2), 1.9)):
        alpha = np.float32(size - 2) / np.float32(places - 1)
        i = np.arange(places - 1, dtype=np.float32)
        starts = ((i + u[:, None]) * alpha).astype(np.int32) - (u[:, None] * alpha).astype(np.int32)
        found = jax.jit(window_starts, static_argnums=(1, 2, 3))(jnp.asarray(u), size, places, 2)
        np.testing.assert_array_equal(found[:, :-1], starts)
        assert (np.asarray(found[:, -1]) == size - 2).all()


@pytest.mark.quick_cases("windows-random")
@pytest.mark.parametrize(("regions", "sequence"), KINDS)
def test_pooling_intervals_have_steps_of_1_or_2_and_cover_the_axis(regions: RegionKind, sequence: SequenceKind) -> None:
    """The regions cover the whole axis without gaps and have the lengths of their kind."""
    for size, places in ((25, 17), (8, 4), (7, 6)):
        draw = jnp.asarray(RNG.random((200, *draw_shape(places, regions, sequence)), np.float32))
        longest = []

        def ends_of(draw: jax.Array, size: int = size, places: int = places, longest: list[int] = longest) -> Any:
            found = pooling_intervals(draw, size, places, regions, sequence)
            longest.append(found.longest)
            return found.starts, found.ends

        starts, ends = map(np.asarray, jax.jit(ends_of)(draw))
        assert starts.shape == ends.shape == (200, places)
        assert (starts[:, 0] == 0).all()
        assert (ends[:, -1] == size).all()
        assert set(np.unique(np.diff(starts))) <= {1, 2}
        assert (starts[:, 1:] <= ends[:, :-1]).all()
        lengths = ends - starts
        if regions == "windows":
            assert (lengths == 2).all()
        elif regions == "disjoint":
            assert (ends[:, :-1] == starts[:, 1:]).all()
            assert set(np.unique(lengths)) <= {1, 2}
        else:
            assert (ends[:, :-1] == starts[:, 1:] + 1).all()  # the next region's first is also in this one
            assert set(np.unique(lengths[:, :-1])) <= {2, 3}
        assert lengths.max() <= longest[0]


def test_pseudorandom_boundaries_equal_the_formula_of_the_paper() -> None:
    """For every distinct offset: ceil(alpha (i + u)), shifted to begin at 0, for u in (0, 1)."""
    size, places = 25, 18
    u = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    exact = np.array([[math.ceil((i + v) * size / places) for i in range(places + 1)] for v in u.astype(np.float64)])
    np.testing.assert_array_equal(boundaries(jnp.asarray(u), size, places), exact - exact[:, :1])
    assert len(np.unique(boundaries(jnp.asarray(u), size, places), axis=0)) > 10


def test_random_sequences_are_uniform_among_all_orders() -> None:
    """Two long steps among five: chi-square over ten orders, 9 degrees of freedom; above 57 with a chance of 5e-9."""
    count = 5000
    draw = jnp.asarray(RNG.random((count, 5), np.float32))
    steps = np.diff(random_sequence(draw, 7))
    assert (steps.sum(axis=1) == 7).all()
    observed = np.unique(steps, axis=0, return_counts=True)[1]
    assert observed.shape == (10,)
    assert ((observed - count / 10) ** 2 / (count / 10)).sum() < 57


@pytest.mark.slow
def test_pooling_regions_equal_a_worked_example_of_tensorflow() -> None:
    """TensorFlow's example: boundaries 0, 2, 4, 5 of [20, 5, 16, 3, 7]; the index 2 is in two regions or in one."""
    row = jnp.array([20.0, 5, 16, 3, 7]).reshape(1, 1, 5, 1)
    one = pooling_intervals(jnp.zeros((1, 1, 0)), 1, 1, "windows", "random", window=1)
    order = jnp.array([0.1, 0.2, 0.9]).reshape(1, 1, 3)  # two steps of 2, then one of 1
    for regions, expected in (("overlapping", [20, 16, 7]), ("disjoint", [20, 16, 7])):
        columns = pooling_intervals(order, 5, 3, regions)
        np.testing.assert_array_equal(np.asarray(columns.starts)[0, 0], [0, 2, 4])
        np.testing.assert_array_equal(fractional_max_pool_given(one, columns, row).ravel(), expected)
    rising = jnp.arange(5.0).reshape(1, 1, 5, 1)
    both = [pooling_intervals(order, 5, 3, regions) for regions in ("overlapping", "disjoint")]
    values = [np.asarray(fractional_max_pool_given(one, columns, rising)).ravel().tolist() for columns in both]
    assert values == [[2, 4, 4], [1, 3, 4]]


@pytest.mark.quick_cases("windows-random", "disjoint-random", "disjoint-pseudorandom")
@pytest.mark.parametrize(("regions", "sequence"), KINDS)
def test_fractional_pooling_equals_a_numpy_loop(regions: RegionKind, sequence: SequenceKind) -> None:
    x = RNG.permutation(2 * 9 * 7 * 3).reshape(2, 9, 7, 3).astype(np.float32)
    draws = [jnp.asarray(RNG.random((2, 1, *draw_shape(p, regions, sequence)), np.float32)) for p in (6, 5)]
    rows, columns = (
        pooling_intervals(draws[0], 9, 6, regions, sequence),
        pooling_intervals(draws[1], 7, 5, regions, sequence),
    )
    found = np.asarray(fractional_max_pool_given(rows, columns, jnp.asarray(x)))
    for n in range(2):
        ranges = [
            [range(a, b) for a, b in zip(np.asarray(r.starts)[n, 0], np.asarray(r.ends)[n, 0], strict=True)]
            for r in (rows, columns)
        ]
        np.testing.assert_array_equal(found[n : n + 1], numpy_pool(x[n : n + 1], *ranges))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shared", "different"), [("batch", (False, False)), ("example", (True, False)), ("channel", (True, True))]
)
def test_fractional_pooling_shares_regions_by_batch_example_or_channel(
    shared: Shared, different: tuple[bool, bool]
) -> None:
    x = jnp.broadcast_to(jnp.asarray(RNG.permutation(400), jnp.float32).reshape(1, 20, 20, 1), (4, 20, 20, 3))
    found = np.asarray(fractional_max_pool(jax.random.key(0), x, (14, 14), shared=shared))
    assert (not (found == found[:1]).all(), not (found == found[..., :1]).all()) == different
    assert not np.array_equal(found, fractional_max_pool(jax.random.key(1), x, (14, 14), shared=shared))


@pytest.mark.slow
def test_fractional_pooling_at_test_is_random_only_with_a_key() -> None:
    x = jnp.asarray(RNG.normal(size=(2, 10, 10, 3)), jnp.float32)
    layer, key = FractionalMaxPool(train=False), jax.random.key(0)
    middle = layer.apply({}, x)
    half = jnp.full((1, 1), 0.5)
    expected = pooling_intervals(half, 10, 7, "windows", "pseudorandom")
    np.testing.assert_array_equal(middle, fractional_max_pool_given(expected, expected, x))
    drawn = layer.apply({}, x, rngs={"dropout": key})
    np.testing.assert_array_equal(drawn, FractionalMaxPool(train=True).apply({}, x, rngs={"dropout": key}))
    assert not np.array_equal(drawn, middle)
    keys = jax.random.split(key, 5)
    mean = marginalize(lambda k: layer.apply({}, x, rngs={"dropout": k}), keys)
    again = jax.random.split(jax.random.key(0), 5)
    each = jax.jit(lambda ks: jax.lax.map(lambda k: layer.apply({}, x, rngs={"dropout": k}), ks))(again)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


def test_fractional_pooling_refuses_sizes_and_ratios_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"5 windows of 2 needs .* at least 6 positions, got 5"):
        pooling_intervals(jnp.zeros((4,)), 5, 5)
    with pytest.raises(ValueError, match=r"with 4 .*regions needs .* 4 to 8 positions, got 9"):
        pooling_intervals(jnp.zeros((4,)), 9, 4, "disjoint")
    with pytest.raises(ValueError, match=r"between 1 and 2 .*got 2\.0"):
        FractionalMaxPool(train=False, ratio=2.0).apply({}, jnp.ones((1, 8, 8, 1)))


SIDES = {
    "fractional_cnn": (32, [25, 17, 11, 7, 4, 2], [35, 24, 16, 10, 6, 3]),
    "fractional_cnn_cifar": (
        64,
        [74, 58, 45, 35, 27, 21, 16, 12, 9, 6, 4, 2],
        [93, 73, 57, 44, 34, 26, 20, 15, 11, 8, 5, 3],
    ),
}
"""Channels of the first convolution, and sides after and before each pooling, for inputs of 36x36 and 94x94."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDES)
def test_fractional_cnns_have_the_sizes_of_the_paper(name: str) -> None:
    """Backward from the last map: each side times the ratio, rounded, plus 1 for a convolution, gives the input."""
    facts = MODELS[name].reference
    width, after, before = SIDES[name]
    model = MODELS.create(name, num_classes=10)
    images = jax.ShapeDtypeStruct((1, *facts["input"]), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    maps = jax.eval_shape(lambda v, x: features(model, v, x), variables, images)
    shapes = [maps[f"block{n}"].shape[1:] for n in range(1, len(after) + 1)]
    assert shapes == [(s, s, width * n) for n, s in enumerate(after, 1)]
    side = 2
    for out, size in zip(reversed(after), reversed(before), strict=True):
        assert side == out
        assert round(out * model.ratio) == size
        side = size + 1
    assert side == facts["input"][0]
    parameters = multiply_adds = 0
    channels = facts["input"][2]
    for n, (window, size) in enumerate([*((4, s) for s in before), (4, 1), (1, 1)], 1):
        weights = window * channels * width * n
        parameters, multiply_adds = parameters + weights + width * n, multiply_adds + weights * size**2
        channels = width * n
    assert parameters + channels * 10 + 10 == facts["parameters"]
    assert multiply_adds + channels * 10 == facts["multiply_adds"]
