"""TTA crops against torchvision, Pillow and enumeration: their positions, resizing and weights."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from jaxtrain.config import TTASpec
from jaxtrain.tta.base import BuildViews, Examples, TTASetup, ViewGroup
from jaxtrain.tta.crops import Crop, add_mirrored, five_crops, flips, ten_crop
from jaxtrain.tta.googlenet import crops_of_squares, googlenet_crops, largest_squares
from jaxtrain.tta.scales import dense, multi_scale, resize, shorter_side
from tests.models.torch_port import torchvision

RNG = np.random.default_rng(0)


def batch(height: int, width: int, channels: int = 2, count: int = 2) -> Examples:
    pixels = RNG.integers(0, 256, (count, height, width, channels), np.uint8)
    return Examples(jnp.asarray(pixels), jnp.asarray(pixels, jnp.float32), jax.random.split(jax.random.key(0), count))


def build_groups(views: BuildViews, examples: Examples) -> tuple[ViewGroup, ...]:
    shape = examples.pixels.shape
    return views(TTASetup((shape[1], shape[2], shape[3]), nn.Module(), lambda pixels: pixels.astype(jnp.float32)))


def repeated_views(group: ViewGroup, examples: Examples) -> list[np.ndarray]:
    """Return every view of a group, repeated in proportion to its share."""
    prepared, view = jax.jit(group.prepare)(examples), jax.jit(group.view)
    return [
        np.asarray(view(prepared, np.int32(number)))
        for number, share in enumerate(group.shares)
        for _ in range(round(share / min(group.shares)))
    ]


def sorted_views(views: list[np.ndarray]) -> np.ndarray:
    return np.array(sorted(views, key=lambda view: view.tolist()))


@pytest.mark.parametrize(("height", "width", "size"), [(12, 12, 8), (11, 16, 6), (9, 10, 9), (7, 14, 4), (5, 5, 5)])
def test_five_crops_equal_those_of_torchvision(height: int, width: int, size: int) -> None:
    torchvision()
    import torch
    from torchvision.transforms.v2 import functional

    examples = batch(height, width)
    images = torch.from_numpy(np.array(examples.images)).permute(0, 3, 1, 2)
    found = [
        np.asarray(examples.images[:, top : top + size, left : left + size])
        for top, left, _ in five_crops((height, width), (size, size))
    ]
    wanted = [crop.permute(0, 2, 3, 1).numpy() for crop in functional.five_crop(images, [size, size])]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("height", "width", "size"), [(12, 12, 8), (10, 16, 6), (9, 9, 9)])
def test_ten_crop_equals_that_of_torchvision(height: int, width: int, size: int) -> None:
    """Even margins only: for odd margins, torchvision takes another center of the mirrored image."""
    torchvision()
    import torch
    from torchvision.transforms.v2 import functional

    examples = batch(height, width)
    images = torch.from_numpy(np.array(examples.images)).permute(0, 3, 1, 2)
    (group,) = build_groups(ten_crop(size), examples)
    wanted = [crop.permute(0, 2, 3, 1).numpy() for crop in functional.ten_crop(images, [size, size])]
    np.testing.assert_array_equal(
        sorted_views(repeated_views(group, examples)), sorted_views(wanted)[:: 5 if size == height == width else 1]
    )
    assert sum(group.shares) == pytest.approx(1)


def test_identical_crops_are_evaluated_once_with_their_combined_share() -> None:
    examples = batch(8, 8)
    (group,) = build_groups(ten_crop(8), examples)
    assert group.shares == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(repeated_views(group, examples), [examples.images, examples.images[:, :, ::-1]])
    (group,) = build_groups(ten_crop((7), flip=False), batch(7, 8))
    assert group.shares == pytest.approx((0.6, 0.4))  # the center is the left side


@pytest.mark.parametrize(
    ("size", "side"), [(0.875, (7, 14)), (0.5, (4, 8)), (1.0, (8, 16)), (3, (3, 3)), (0.01, (1, 1))]
)
def test_a_crop_size_is_in_pixels_or_a_fraction_of_the_image(size: float, side: tuple[int, int]) -> None:
    examples = batch(8, 16)
    (group,) = build_groups(ten_crop(size), examples)
    assert jax.eval_shape(lambda e: group.view(group.prepare(e), jnp.int32(0)), examples).shape == (2, *side, 2)


def test_flips_gives_the_image_and_its_mirror_image() -> None:
    examples = batch(3, 4)
    (group,) = build_groups(flips(), examples)
    np.testing.assert_array_equal(repeated_views(group, examples), [examples.images, examples.images[:, :, ::-1]])
    assert group.shares == (0.5, 0.5)


@pytest.mark.quick_cases("12-20-30", "29-21-34")
@pytest.mark.parametrize(("height", "width"), [(20, 30), (30, 20), (24, 24), (21, 34)])
@pytest.mark.parametrize("side", [12, 29])
def test_resize_equals_bilinear_resizing_in_pillow(height: int, width: int, side: int) -> None:
    size = shorter_side((height, width, 1), side)
    assert min(size) == side
    assert max(size) == max(height, width) * side // min(height, width)  # like torchvision's resize
    images = RNG.normal(size=(1, height, width, 1)).astype(np.float32)
    wanted = Image.fromarray(images[0, :, :, 0]).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(jax.jit(resize, static_argnums=1)(images, size)[0, :, :, 0], wanted, atol=2e-5)


def googlenet_views(image: np.ndarray, scales: tuple[int, ...], size: int) -> list[np.ndarray]:
    """Compute GoogLeNet's views of one channel as the paper describes them, with Pillow and slices."""
    found = []
    for scale in scales:
        height, width = image.shape
        new = (scale * width // height, scale) if height <= width else (scale, scale * height // width)
        whole = np.asarray(Image.fromarray(image).resize(new, Image.Resampling.BILINEAR))
        rest = max(new) - scale
        for begin in (0, rest // 2, rest):
            square = whole[:, begin : begin + scale] if height <= width else whole[begin : begin + scale]
            low, high, middle = 0, scale - size, (scale - size) // 2
            for top, left in [(low, low), (low, high), (high, low), (high, high), (middle, middle)]:
                crop = square[top : top + size, left : left + size]
                found += [crop, crop[:, ::-1]]
            small = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))
            found += [small, small[:, ::-1]]
    return found


@pytest.mark.parametrize(("height", "width"), [(20, 36), pytest.param(36, 20, marks=pytest.mark.slow)])
def test_googlenet_crops_gives_the_144_views_of_the_paper(height: int, width: int) -> None:
    """All 144 views in the published proportions: scales of 256 to 352 and crops of 224, divided by 16."""
    scales, size = (16, 18, 20, 22), 14
    examples = batch(height, width, channels=1, count=1)
    wanted = googlenet_views(np.array(examples.images[0, :, :, 0]), scales, size)
    assert len(wanted) == 144
    counts: list[int] = []
    found: list[np.ndarray] = []
    for group in build_groups(googlenet_crops(scales, size), examples):
        prepared, view = jax.jit(group.prepare)(examples), jax.jit(group.view)
        for number, share in enumerate(group.shares):
            found.append(np.asarray(view(prepared, np.int32(number)))[0, :, :, 0])
            counts.append(round(share * 144))
            assert share * 144 == pytest.approx(counts[-1])
    assert sum(counts) == 144
    same = [[np.abs(a - b).max() < 1e-3 for b in wanted] for a in found]  # on a scale of 255
    assert np.sum(same, axis=1).tolist() == counts
    assert np.sum(same, axis=0).tolist() == [1] * 144


def test_googlenet_crops_have_the_published_number_and_positions() -> None:
    shape = shorter_side((300, 400), 256)
    assert shape == (256, 341)
    assert largest_squares(shape) == [Crop(0, 0), Crop(0, 42), Crop(0, 85)]
    crops = add_mirrored(crops_of_squares(shape, 224))
    assert len(crops) == len(set(crops)) == 30
    assert {(c.top, c.left) for c in crops} == {
        (top, left + start) for start in (0, 42, 85) for top, left in [*itertools.product((0, 32), (0, 32)), (16, 16)]
    }
    groups = build_groups(googlenet_crops(), batch(300, 400, count=1))
    assert sum(len(group.shares) for group in groups) == 144
    square = build_groups(googlenet_crops(), batch(300, 300, count=1))  # the three squares are the same
    assert sum(len(group.shares) for group in square) == 48
    assert sum(sum(group.shares) for group in square) == pytest.approx(1)


@pytest.mark.slow
def test_multi_scale_gives_every_scale_the_same_weight() -> None:
    examples = batch(6, 9, channels=1)
    groups = build_groups(multi_scale((8, 10, 12), size=8), examples)
    assert [sum(group.shares) for group in groups] == pytest.approx([1 / 3] * 3)
    for group, side in zip(groups, (8, 10, 12), strict=True):
        whole = np.asarray(resize(examples.images, shorter_side((6, 9), side)))
        places = five_crops(whole.shape[1:3], (8, 8))
        wanted = [whole[:, top : top + 8, left : left + 8] for top, left, _ in places]
        wanted += [view[:, :, ::-1] for view in wanted]
        found = repeated_views(group, examples)
        assert len({view.tobytes() for view in wanted}) == len(group.shares)
        np.testing.assert_allclose(np.mean(found, axis=0), np.mean(wanted, axis=0), atol=1e-3)


def test_multi_scale_and_dense_have_the_expected_numbers_of_views() -> None:
    groups = build_groups(multi_scale(), batch(256, 256, count=1))
    assert [len(group.shares) for group in groups] == [2, 10, 10, 10, 10]  # all crops of 224 from 224 are the same
    assert [len(g.shares) for g in build_groups(multi_scale(crops="dense"), batch(8, 8))] == [2] * 5
    assert [len(g.shares) for g in build_groups(dense((8, 9), flip=False), batch(8, 8))] == [1, 1]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (ten_crop(9), "a crop of 9x9 does not fit in an image of 8x12"),
        (multi_scale((16, 10), size=12), "a crop of 12x12 does not fit in an image of 10x15"),
        (googlenet_crops((10,), size=11), "a crop of 11x11 does not fit in an image of 10x10"),
    ],
)
def test_a_crop_larger_than_the_image_is_refused(views: BuildViews, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_groups(views, batch(8, 12))


@pytest.mark.parametrize("make", [multi_scale, googlenet_crops, lambda s: multi_scale(s, "dense")])
@pytest.mark.parametrize("scales", [(), (8, 8)])
def test_multi_scale_refuses_empty_or_repeated_scales(make: Any, scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must contain at least one size, and each size once"):
        make(scales)


@pytest.mark.parametrize(
    "text",
    [
        "flips",
        "ten_crop(28, flip=false)",
        "multi_scale(crops='dense')",
        "augmented(3, 'pad_crop(4)|flip_lr')",
        "draws(4)",
    ],
)
def test_a_tta_spec_equals_its_parsed_text(text: str) -> None:
    spec = TTASpec.parse(text)
    assert TTASpec.parse(str(spec)) == spec
