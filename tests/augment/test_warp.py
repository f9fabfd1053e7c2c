"""Resampling against scipy and torchvision for given parameters, and against numpy where it is exact."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.augment import affine, lens, projective, rotate, translate
from jaxtrain.augment.affine_maps import Affine, affine_given, affine_matrix
from jaxtrain.augment.distortion import lens_given, projection_matrix, projective_given
from jaxtrain.augment.warp import warp_given
from tests.models.torch_port import torchvision

SHAPE = (7, 10, 3)
DRAWS = [
    Affine(x=0.13, y=-0.21),
    Affine(degrees=33.0),
    Affine(scale=1.4),
    Affine(shear_x=17.0),
    Affine(shear_y=-12.0),
    Affine(x=0.07, y=0.11, degrees=-50.0, scale=0.7, shear_x=9.0, shear_y=21.0),
]
SCIPY = {0.4: "grid-constant", "edge": "nearest", "reflect": "mirror"}


def image(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=shape).astype(np.float32)


def drawn(draws: list[Affine]) -> Affine:
    return Affine(*(np.array(values, np.float32) for values in zip(*draws, strict=True)))


def test_affine_equals_torchvision() -> None:
    """To 2e-4 of the range: torch works with coordinates in [-1, 1], in float32.

    The fill is black, since torchvision counts the weight of another twice at the border; scipy is asked about that.
    """
    torchvision()
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    x = image()
    ours = jax.jit(jax.vmap(lambda draw: affine_given(draw, x, "bilinear", 0.0)))(drawn(DRAWS))
    for draw, result in zip(DRAWS, ours, strict=True):
        expected = functional.affine(
            torch.tensor(x).permute(2, 0, 1),
            angle=-draw.degrees,
            translate=[draw.x * SHAPE[1], draw.y * SHAPE[0]],  # type: ignore[operator]
            scale=draw.scale,
            shear=[draw.shear_x, draw.shear_y],
            interpolation=InterpolationMode.BILINEAR,
        )
        np.testing.assert_allclose(result, expected.permute(1, 2, 0).numpy(), atol=2e-4)


@pytest.mark.parametrize("fill", SCIPY)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_warp_equals_scipy(fill: Any, interpolation: Any) -> None:
    """The matrix reaches far outside the image, so that reflections are repeated."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="the oracle is scipy")
    x = image()
    matrix = np.array([[1.9, 0.4, 3.3], [-0.7, 2.3, -5.1], [0, 0, 1]])
    result = jax.jit(lambda m: warp_given(m, x, interpolation, fill))(matrix.astype(np.float32))
    center = (np.array(SHAPE[:2]) - 1) / 2
    linear, shift = matrix[:2, :2][::-1, ::-1], matrix[:2, 2][::-1]  # rows before columns
    order = 0 if interpolation == "nearest" else 1
    expected = np.stack(
        [
            ndimage.affine_transform(
                c, linear, center + shift - linear @ center, order=order, mode=SCIPY[fill], cval=0.4
            )
            for c in x.transpose(2, 0, 1).astype(np.float64)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_affine_aspect_stretches_the_axes_and_keeps_the_area() -> None:
    matrix = affine_matrix(Affine(scale=2.0, aspect=4.0), 6, 9)
    np.testing.assert_allclose(np.array(matrix, float), np.diag([1 / 4, 1.0, 1.0]), atol=1e-6)


@pytest.mark.quick_cases("bilinear-uint8")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_warps_at_neutral_parameters_are_exact_identities(interpolation: Any, dtype: Any) -> None:
    x = (image() * 255).astype(dtype)
    unmoved = jnp.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    zero = jnp.float32(0)

    @jax.jit
    def run(corners: jax.Array, draw: Affine, zero: jax.Array) -> list[jax.Array]:
        return [
            projective_given(corners, x, interpolation),
            affine_given(draw, x, interpolation),
            lens_given(zero, zero, x, interpolation),
        ]

    for result in run(unmoved, Affine(*map(jnp.float32, Affine())), zero):
        np.testing.assert_array_equal(result, x)


def test_affine_is_exact_for_quarter_turns_and_whole_pixels() -> None:
    x = np.random.default_rng(2).integers(0, 256, (5, 5, 3), np.uint8)
    run = jax.jit(functools.partial(affine_given, image=x, fill=(0.0, 1.0, 0.5)))
    np.testing.assert_array_equal(run(Affine(*map(jnp.float32, Affine(degrees=90.0)))), np.rot90(x))
    moved = run(Affine(*map(jnp.float32, Affine(x=0.4))))
    np.testing.assert_array_equal(moved[:, 2:], x[:, :-2])
    np.testing.assert_array_equal(moved[:, :2], np.broadcast_to(np.array([0, 255, 128], np.uint8), (5, 2, 3)))


def test_projective_equals_torchvision() -> None:
    """torchvision measures corners between pixel edges at the upper left; ours are the edges of the image."""
    torchvision()
    import torch
    from torchvision.transforms.v2 import functional

    h, w, _ = SHAPE
    start = [[0, 0], [w, 0], [w, h], [0, h]]
    ends = [[[1, 1], [8, 0], [9, 6], [2, 5]], [[2, 0], [10, 2], [7, 7], [0, 4]]]
    x = image()
    corners = np.array(ends, np.float32) / np.array([w, h], np.float32)
    ours = jax.jit(jax.vmap(lambda c: projective_given(c, x)))(corners)
    for end, result in zip(ends, ours, strict=True):
        expected = functional.perspective(torch.tensor(x).permute(2, 0, 1), start, end)
        np.testing.assert_allclose(result, expected.permute(1, 2, 0).numpy(), atol=2e-4)


def test_projection_matrix_maps_corners_to_corners() -> None:
    h, w = 30, 50
    corners = np.array([[0.1, 0.2], [0.85, 0.05], [0.95, 0.8], [0.02, 0.9]], np.float32)
    matrix = np.asarray(projection_matrix(jnp.array(corners), h, w), np.float64)
    size = np.array([w, h])
    for corner, original in zip(corners, [(0, 0), (1, 0), (1, 1), (0, 1)], strict=True):
        column, row, depth = matrix @ np.append((corner - 0.5) * size, 1)
        np.testing.assert_allclose([column / depth, row / depth], (np.array(original) - 0.5) * size, atol=1e-3)
        assert depth > 0


def test_lens_equals_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="the oracle is scipy")
    x, (h, w, _) = image(), SHAPE
    row, column = np.mgrid[:h, :w] - (np.array(SHAPE[:2]).reshape(2, 1, 1) - 1) / 2
    run = jax.jit(lambda k1, k2: lens_given(k1, k2, x))
    for k1, k2 in ((0.3, 0.0), (-0.2, -0.05)):
        squared = (row**2 + column**2) / ((h / 2) ** 2 + (w / 2) ** 2)
        factor = 1 + k1 * squared + k2 * squared**2
        places = [row * factor + (h - 1) / 2, column * factor + (w - 1) / 2]
        expected = [ndimage.map_coordinates(c, places, order=1, mode="grid-constant") for c in x.transpose(2, 0, 1)]
        np.testing.assert_allclose(run(k1, k2), np.stack(expected, axis=-1), atol=1e-5)


@pytest.mark.slow
def test_warp_fills_pixels_beyond_the_horizon() -> None:
    tilted = jnp.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.0]], jnp.float32)  # the upper half lies behind the viewer
    result = warp_given(tilted, jnp.ones((8, 8, 1)), "bilinear", 0.0)
    assert not np.asarray(result[:3]).any()
    assert np.asarray(result[-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["edge", "reflect"])
def test_affine_on_a_single_pixel_keeps_its_value(fill: Any) -> None:
    x = np.full((1, 1, 3), 77, np.uint8)
    np.testing.assert_array_equal(affine_given(Affine(x=0.6, degrees=40.0), jnp.asarray(x), fill=fill), x)


def test_translate_draws_span_the_given_range() -> None:
    """The image is half black and half white; the position of the border shows the shift."""
    x = np.zeros((1, 101, 1), np.float32)
    x[:, 50:] = 1
    move = jax.jit(jax.vmap(translate((-0.2, 0.1), 0.0, interpolation="nearest", fill="edge"), (0, None)))
    shifts = 51 - np.asarray(move(jax.random.split(jax.random.key(0), 2000), x)).sum(axis=(1, 2, 3))
    assert shifts.min() == -20
    assert shifts.max() == 10
    assert abs(shifts.mean() + 5) < 6 * 30 / math.sqrt(12 * 2000)


def test_rotate_leaves_images_unchanged_by_its_probability() -> None:
    x = image((5, 5, 1))
    results = jax.jit(jax.vmap(rotate((40, 50), probability=0.25), (0, None)))(
        jax.random.split(jax.random.key(3), 2000), x
    )
    same = (np.asarray(results) == x).all(axis=(1, 2, 3)).mean()
    assert abs(same - 0.75) < 6 * math.sqrt(0.25 * 0.75 / 2000)


def test_warps_refuse_invalid_options() -> None:
    with pytest.raises(ValueError, match=r"degrees goes from 10 to -10; write the lower bound first"):
        rotate((10, -10))
    with pytest.raises(ValueError, match=r"factors goes from 2.0 to 1.0"):
        affine(factors=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"k1=0.3 and k2=0.1 can fold the image over"):
        lens(0.3, 0.1)
    with pytest.raises(ValueError, match=r"fill has 3 numbers, but the images have 1 channels"):
        jax.eval_shape(projective(fill=(0.1, 0.2, 0.3)), jax.random.key(0), jnp.zeros((4, 4, 1)))
