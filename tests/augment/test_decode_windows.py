"""Decode transforms: windows against torchvision's draws and Pillow's results, for images of any size."""

import functools
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from jaxtrain.augment.decode import DECODE_TRANSFORMS
from jaxtrain.augment.decode.chain import DecodeChain, compose_transforms, default_eval_chain
from jaxtrain.augment.decode.window import CropWindow, Size, apply_window, compose_windows, full_window, jpeg_reduction
from jaxtrain.config import DecodeTransformSpec
from jaxtrain.config.coerce import coerce
from jaxtrain.data.sources.images import crop_array, decode, decode_window
from jaxtrain.errors import ConfigError, DataError
from tests.models import torch_port as port

SIDES = st.integers(1, 60)
SIZES = st.tuples(SIDES, SIDES)


def parts(text: str) -> list[Any]:
    return [spec.build() for spec in coerce(text, tuple[DecodeTransformSpec, ...], "data.decode")]


def made(text: str) -> DecodeChain:
    return compose_transforms(parts(text))


def draws(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def make_image(size: Size, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return a smooth image, so that rounded sizes change pixels only slightly."""
    coarse = np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


class Replayed:
    """A replacement of torch's random functions that uses our random numbers."""

    def __init__(self, numbers: np.random.RandomState):
        import torch

        self.numbers = numbers
        self.tensor = functools.partial(torch.tensor, dtype=torch.float64)

    def uniform_(self, low: float, high: float) -> Any:
        return self.tensor(self.numbers.uniform(float(low), float(high)))

    def randint(self, low: int, high: int, size: Any) -> Any:
        return self.tensor(int(self.numbers.randint(low, high)))


@pytest.mark.parametrize("size", [(500, 375), (37, 91), (400, 10), (3, 200), (1, 1), (1, 30)])
@pytest.mark.parametrize("options", ["", ", area=(0.5, 0.7), aspect=(0.9, 1.5)"])
def test_random_resized_crop_draws_equal_torchvision(size: Size, options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port.torchvision()
    import torch
    from torchvision.transforms import RandomResizedCrop

    crop = made(f"random_resized_crop(24{options})")
    area, aspect = crop.parts[0].area, crop.parts[0].aspect  # type: ignore[attr-defined]
    image = torch.zeros(3, size[1], size[0])
    for seed in range(40):
        replayed = Replayed(draws(seed))
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", lambda n, replayed=replayed: replayed)
            patch.setattr(torch, "randint", replayed.randint)
            top, left, height, width = RandomResizedCrop.get_params(image, area, aspect)
        assert crop.window(draws(seed), size) == CropWindow(left, top, width, height, (24, 24))


@given(SIZES, SIZES)
def test_fit_equals_pillow(size: Size, target: Size) -> None:
    image = make_image(size)
    ours = apply_window(image, made(f"fit({target[1]}, {target[0]})").window(draws(), size))
    theirs = ImageOps.fit(image, target, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@given(SIZES, SIZES)
def test_resize_equals_pillow(size: Size, target: Size) -> None:
    image = make_image(size)
    ours = apply_window(image, made(f"resize({target[1]}, {target[0]})").window(draws(), size))
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(image.resize(target, Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (31, 31), (200, 29)])
@pytest.mark.parametrize(("text", "short"), [("resize_short(28)", 28), ("resize_short(40)", 40)])
def test_resize_and_crop_in_one_resampling_equal_two_steps(size: Size, text: str, short: int) -> None:
    image = make_image(size)
    ours = np.asarray(apply_window(image, made(f"{text}|center_crop((20, 24))").window(draws(), size)))
    small = image.resize(
        tuple(int(short * side / min(size)) for side in size),  # type: ignore[arg-type]  # torchvision's rounding
        Image.Resampling.BILINEAR,
    )
    left, top = (small.width - 24) // 2, (small.height - 20) // 2
    theirs = np.asarray(small.crop((left, top, left + 24, top + 20)))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_random_crop_inside_the_image_copies_its_pixels() -> None:
    image = make_image((40, 30))
    seen = set()
    for seed in range(200):
        window = made("random_crop((28, 37))").window(draws(seed), image.size)
        left, top = int(window.left), int(window.top)
        seen.add((left, top))
        np.testing.assert_array_equal(
            np.asarray(apply_window(image, window)), np.asarray(image)[top : top + 28, left : left + 37]
        )
    assert seen == {(x, y) for x in range(4) for y in range(3)}
    assert made("center_crop((28, 37))").window(draws(), image.size)[:2] == (1, 1)


def test_resize_short_scale_jitter_is_uniform_between_its_bounds() -> None:
    (jitter,) = parts("resize_short(256, 480)")
    shorts = [min(jitter.window(draws(seed), (500, 375)).size) for seed in range(2000)]
    assert (min(shorts), max(shorts)) == (256, 480)
    # Mean 368, deviation 65 of one, 1.45 of the mean of 2000; four of these.
    assert np.mean(shorts) == pytest.approx(368, abs=5.8)


def test_decode_flip_lr_mirrors_with_its_probability() -> None:
    image = make_image((7, 5))
    flipped = np.asarray(apply_window(image, made("resize(5, 7)|flip_lr(1.0)").window(draws(), image.size)))
    np.testing.assert_array_equal(flipped, np.asarray(image)[:, ::-1])
    never, half = made("resize(5, 7)|flip_lr(0)"), made("resize(5, 7)|flip_lr")
    numbers = draws(1)
    assert not any(never.window(numbers, (7, 5)).mirrored for _ in range(100))
    # 400 tosses: deviation 10, four of these.
    assert abs(sum(half.window(numbers, (7, 5)).mirrored for _ in range(400)) - 200) <= 40
    assert (never.random(), half.random(), made("fit(4, 4)|flip_lr(1)").random()) == (False, True, False)


@given(SIZES, st.integers(0, 5), st.booleans())
def test_composed_windows_equal_two_successive_windows(size: Size, seed: int, mirrored: bool) -> None:
    """The composition of crops and flips is exact, since no pixel is interpolated."""
    image, numbers = make_image(size), draws(seed)
    width, height = numbers.randint(1, size[0] + 1), numbers.randint(1, size[1] + 1)
    left, top = numbers.randint(0, size[0] - width + 1), numbers.randint(0, size[1] - height + 1)
    first = full_window(size)._replace(mirrored=mirrored)
    second = CropWindow(int(left), int(top), int(width), int(height), (int(width), int(height)), mirrored=True)
    np.testing.assert_array_equal(
        np.asarray(apply_window(image, compose_windows(first, second))),
        np.asarray(apply_window(apply_window(image, first), second)),
    )


CHAINS = [
    "random_resized_crop(8)|flip_lr",
    "resize_short(9, 20)|random_crop((8, 12))|flip_lr",
    "resize_short(16)|center_crop(8)",
    "flip_lr|center_crop((3, 70))",
    "random_crop(64)",
    "resize(12, 12)|random_resized_crop((8, 4))",
    "fit(5, 9)",
]


@pytest.mark.parametrize("text", CHAINS)
@given(size=SIZES, seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 3, 4]))
def test_decode_chain_gives_its_output_size_for_any_image(text: str, size: Size, seed: int, channels: int) -> None:
    steps = made(text)
    window = steps.window(draws(seed), size)
    assert window == steps.window(draws(seed), size)
    assert window.left >= -1e-9
    assert window.top >= -1e-9
    assert window.left + window.width <= size[0] + 1e-9
    assert window.top + window.height <= size[1] + 1e-9
    pixels = np.full((size[1], size[0], channels), 77, np.uint8)
    found = crop_array(pixels, lambda _: window)
    assert found.shape == (steps.size[1], steps.size[0], channels)
    if channels < 4:  # Pillow rounds colors under transparency
        assert (found == 77).all()


def test_decode_transforms_are_determined_by_the_random_state() -> None:
    image = make_image((40, 30))
    (crop,) = parts("random_resized_crop(8)")
    first, again, other = (np.asarray(crop(draws(seed), image)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("text", "evaluation"), [
    ("random_resized_crop(224)|flip_lr", "resize_short(256)|center_crop(224)"),
    ("random_crop((20, 30))", "fit(20, 30)"),
    ("resize(20, 30)", "resize(20, 30)"),
])  # fmt: skip
def test_default_eval_chain_is_deterministic_with_the_same_size(text: str, evaluation: str) -> None:
    found = default_eval_chain(made(text))
    assert found == made(evaluation)
    assert found.size == made(text).size


@pytest.mark.parametrize(("text", "says"), [
    ("random_resized_crop(0)", "out of range"),
    ("random_resized_crop(8, area=(0, 1))", "out of range"),
    ("random_resized_crop(8, area=(0.5, 1.5))", "out of range"),
    ("random_resized_crop(8, area=(0.5, 0.1))", "lower bound first"),
    ("random_resized_crop(8, aspect=(2, 1))", "lower bound first"),
    ("resize_short(480, 256)", "lower bound first"),
    ("flip_lr(1.5)", "out of range"),
    ("random_crp(8)", "did you mean 'random_crop'"),
])  # fmt: skip
def test_decode_transforms_refuse_invalid_options(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parts(text)


@pytest.mark.parametrize("text", ["flip_lr", "resize_short(256)", "center_crop(8)|resize_short(9, 12)"])
def test_decode_chain_without_a_fixed_output_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="differ in size; end the transforms with random_crop"):
        made(text)


def test_decode_chain_derives_its_size_from_an_earlier_resize() -> None:
    assert made("resize(40, 20)|resize_short(10)|flip_lr").size == (10, 20)


def test_these_chains_cover_every_decode_transform() -> None:
    tried = " ".join([*CHAINS, "resize("])
    assert all(f"{name}(" in tried or name in tried for name in DECODE_TRANSFORMS)


def encoded(image: Image.Image, suffix: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, suffix, **options)
    return stream


@pytest.mark.parametrize(("mode", "suffix"), [
    ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("1", "BMP"),
])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_decode_window_equals_decode_for_every_image_mode(mode: str, suffix: str, channels: int) -> None:
    image = make_image((41, 30), "L").convert("I;16") if mode == "I;16" else make_image((41, 30), mode)
    file = encoded(image, suffix)
    fitted = made("fit(12, 10)")
    ours = decode_window(file, "a", channels, lambda size: fitted.window(draws(), size))
    np.testing.assert_array_equal(ours, decode(file, "a", channels, (12, 10)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_window_applies_the_exif_orientation_before_cropping(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(make_image((41, 30)), "JPEG", exif=exif)
    crop = made("random_crop((20, 26))")
    seen: list[Size] = []

    def window(size: Size) -> CropWindow:
        seen.append(size)
        return crop.window(draws(5), size)

    for upright in (True, False):
        everything = decode(file, "a", 3, None, upright)
        found = decode_window(file, "a", 3, window, upright)
        assert seen[-1] == everything.shape[1::-1]
        left, top = (int(edge) for edge in window(seen[-1])[:2])
        np.testing.assert_array_equal(found, everything[top : top + 20, left : left + 26])


@pytest.mark.parametrize(
    ("sides", "orientation", "factor"), [((640, 480), 1, 4), ((333, 517), 6, 2), ((120, 90), 1, 1)]
)
def test_decode_window_reduces_large_jpegs_without_visible_difference(
    sides: Size, orientation: int, factor: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(make_image(sides, seed=3), "JPEG", quality=95, exif=exif)
    plain = Image.fromarray(decode(file, "a", 3, None))
    window = made("resize_short(48)|center_crop(40)|flip_lr(1)").window(draws(), plain.size)
    assert jpeg_reduction(window) == factor
    ours = decode_window(file, "a", 3, lambda size: window).astype(int)
    theirs = np.asarray(apply_window(plain, window)).astype(int)
    assert np.abs(ours - theirs).mean() < 1
    assert np.abs(ours - theirs).max() <= (6 if factor > 1 else 0)


def test_truncated_image_raises_an_error_with_its_name() -> None:
    file = io.BytesIO(encoded(make_image((64, 64)), "JPEG").getvalue()[:-200])
    with pytest.raises(DataError, match=r"^rose\.jpg cannot be decoded: .*replace it$"):
        decode_window(file, "rose.jpg", 3, lambda size: full_window(size))
