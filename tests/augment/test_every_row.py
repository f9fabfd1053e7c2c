"""What every augmentation of the table keeps: shape, dtype, range, and draws that belong to the key."""

import pkgutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain import augment
from jaxtrain.augment import AUGMENTATIONS
from jaxtrain.config import AugmentationSpec

NAMES = AUGMENTATIONS.names()
OPTIONS: dict[str, dict[str, Any]] = {"cutout": {"size": 1}}
"""For images of one pixel, of which a square of 16 would leave nothing."""
KEYS = 12


def images(shape: tuple[int, int, int], dtype: Any) -> np.ndarray:
    """No pixel is black or white, so that autocontrast has something to do."""
    values = np.random.default_rng(0).integers(30, 220, shape)
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, np.ndarray]]:
    """Every row under the same keys, the first of them twice; one program for each kind of image, hardly optimized."""
    keys = jax.random.split(jax.random.key(0), KEYS)
    keys = jnp.concatenate([keys, keys[:1]])
    rows = [AUGMENTATIONS.create(name, **OPTIONS.get(name, {})) for name in NAMES]
    found = {}
    for kind, x in {"photo": images((20, 16, 3), np.uint8), "pixel": images((1, 1, 1), np.float32)}.items():

        def run(keys: jax.Array, x: jax.Array) -> list[jax.Array]:
            return [jax.vmap(row, (0, None))(jax.random.clone(keys), x) for row in rows]

        compiled = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
        found[kind] = dict(zip(NAMES, map(np.asarray, compiled(jax.random.clone(keys), x)), strict=True))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_shape_dtype_and_range(name: str, results: dict[str, dict[str, np.ndarray]]) -> None:
    photos, pixels = results["photo"][name], results["pixel"][name]
    assert (photos.shape, photos.dtype) == ((KEYS + 1, 20, 16, 3), np.uint8)
    assert (pixels.shape, pixels.dtype) == ((KEYS + 1, 1, 1, 1), np.float32)
    assert np.isfinite(pixels).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_a_draw(name: str, results: dict[str, dict[str, np.ndarray]]) -> None:
    photos = results["photo"][name]
    np.testing.assert_array_equal(photos[0], photos[-1])
    assert len(np.unique(photos.reshape(KEYS + 1, -1), axis=0)) > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "dtype"), [((6, 4, 1), jnp.uint8), ((3, 9, 3), jnp.bfloat16)])
def test_other_images(name: str, shape: tuple[int, int, int], dtype: Any) -> None:
    row = AUGMENTATIONS.create(name, **OPTIONS.get(name, {}))
    key = jax.eval_shape(lambda: jax.random.key(0))
    result = jax.eval_shape(row, key, jax.ShapeDtypeStruct(shape, dtype))
    assert (result.shape, result.dtype) == (shape, dtype)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"flip_lr", "flip_ud", "pad_crop"}))
def test_options_read_and_write(name: str) -> None:
    spec = AugmentationSpec.parse(name)
    assert AugmentationSpec.parse(str(spec)) == spec
    assert callable(spec.build())


def test_a_module_has_not_the_name_of_a_row() -> None:
    """Or importing the module would hide the factory, `jaxtrain.augment.NAME`."""
    assert not {module.name for module in pkgutil.iter_modules(augment.__path__)} & set(NAMES)
