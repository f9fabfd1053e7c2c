"""The contract of every registered augmentation: shape, dtype, range, and draws determined by the key."""

import functools
import pkgutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtrain import augment
from jaxtrain.augment import AUGMENTATIONS
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.config import AugmentationSpec
from tests.conftest import slow

NAMES = AUGMENTATIONS.names()
OPTIONS: dict[str, dict[str, Any]] = {"cutout": {"size": 1}}
"""Options for images of one pixel, which a square of 16 would hide completely."""
KEYS = 12


def images(shape: tuple[int, int, int], dtype: Any) -> np.ndarray:
    """Return images without black and white pixels, so that autocontrast changes them."""
    values = np.random.default_rng(0).integers(30, 220, shape)
    return values.astype(np.uint8) if dtype == np.uint8 else (values / 255).astype(dtype)


SAME = {"translate", "rotate", "scale", "stretch", "shear", "autoaugment", "trivialaugment"}
"""Augmentations that share the code of `affine` and `randaugment`; they are not run here."""
RUN = sorted(set(NAMES) - SAME)
KINDS = {"photo": images((20, 16, 3), np.uint8), "pixel": images((1, 1, 1), np.float32)}
FAST = {"xla_backend_optimization_level": 0}
"""Compiler options for a fast compilation, which takes longer than the run."""


@functools.cache
def draw(kind: str) -> dict[str, np.ndarray]:
    """Apply every augmentation under the same keys, the first key twice, in one program without optimizations."""
    bits = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(0), KEYS)))
    bits = np.concatenate([bits, bits[:1]])
    rows = [AUGMENTATIONS.create(name, **OPTIONS.get(name, {})) for name in RUN]

    def run(bits: jax.Array, x: jax.Array) -> list[jax.Array]:
        return [jax.vmap(row, (0, None))(jax.random.wrap_key_data(bits), x) for row in rows]

    return dict(zip(RUN, map(np.asarray, jax.jit(run, compiler_options=FAST)(bits, KINDS[kind])), strict=True))


@pytest.mark.parametrize("kind", ["photo", slow("pixel")])
@pytest.mark.parametrize("name", RUN)
def test_augmentation_keeps_shape_dtype_and_range(kind: str, name: str) -> None:
    found, x = draw(kind)[name], KINDS[kind]
    assert (found.shape, found.dtype) == ((KEYS + 1, *x.shape), x.dtype)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= (255 if x.dtype == np.uint8 else 1)


@pytest.mark.parametrize("name", RUN)
def test_augmentation_draws_are_determined_by_the_key(name: str) -> None:
    photos = draw("photo")[name]
    np.testing.assert_array_equal(photos[0], photos[-1])
    assert len(np.unique(photos.reshape(KEYS + 1, -1), axis=0)) > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "dtype"), [((6, 4, 1), jnp.uint8), ((3, 9, 3), jnp.bfloat16)])
def test_augmentation_keeps_shape_and_dtype_of_other_images(name: str, shape: tuple[int, int, int], dtype: Any) -> None:
    row = AUGMENTATIONS.create(name, **OPTIONS.get(name, {}))
    key = jax.eval_shape(lambda: jax.random.key(0))
    result = jax.eval_shape(row, key, jax.ShapeDtypeStruct(shape, dtype))
    assert (result.shape, result.dtype) == (shape, dtype)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"flip_lr", "flip_ud", "pad_crop"}))
def test_augmentation_spec_survives_writing_and_parsing(name: str) -> None:
    spec = AugmentationSpec.parse(name)
    assert AugmentationSpec.parse(str(spec)) == spec
    assert callable(spec.build())


@pytest.mark.parametrize("name", NAMES)
def test_augmentation_keeps_the_sharding_of_a_batch_on_an_explicit_mesh(name: str) -> None:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    run = pipeline([AUGMENTATIONS.create(name, **OPTIONS.get(name, {}))])
    with jax.set_mesh(mesh):
        divided = jax.ShapeDtypeStruct((4, 6, 5, 3), jnp.uint8, sharding=NamedSharding(mesh, PartitionSpec("data")))
        result = jax.eval_shape(run, jax.eval_shape(lambda: jax.random.key(0)), divided)
    assert result.sharding.spec[0] == "data"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [slow(AxisType.Auto), AxisType.Explicit])
def test_augmentation_draws_are_independent_of_the_devices(kind: AxisType) -> None:
    """Four devices against one; a difference of one level is allowed, since programs may round differently."""
    run = pipeline([AUGMENTATIONS.create(name) for name in ("rotate", "trivialaugment")])
    batch = np.random.default_rng(0).integers(0, 256, (8, 9, 7, 3), np.uint8)
    alone = np.asarray(jax.jit(run, compiler_options=FAST)(jax.random.key(3), batch), int)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        divided = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
        result = jax.jit(run, compiler_options=FAST)(jax.random.key(3), divided)
    assert len(result.sharding.device_set) == 4
    assert (np.abs(np.asarray(result, int) - alone) > 1).mean() < 0.01
    assert not np.array_equal(alone, batch)


def test_no_augment_module_has_the_name_of_an_augmentation() -> None:
    """Otherwise importing the module would hide the factory, `jaxtrain.augment.NAME`."""
    assert not {module.name for module in pkgutil.iter_modules(augment.__path__)} & set(NAMES)
