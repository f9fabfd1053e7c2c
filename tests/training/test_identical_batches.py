"""A training batch depends on the seed and the step only, not on devices, micro-batches, compilation or a restart."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest

from jaxtrain.config import Config, DataConfig, apply_overrides
from jaxtrain.data.loader import Batch
from jaxtrain.data.memory import put_split
from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.training.inputs import make_loader, make_order
from jaxtrain.training.plan import make_plan
from tests.conftest import tiny_config

B = 16
DATA = DataConfig(
    dataset="synthetic(height=8, width=8, channels=3, num_classes=3, train_examples=96, test_examples=20)",
    batch_size=B,
    augment="pad_crop(2)|flip_lr|cutout(3)",
    mix="mixup_or_cutmix|label_smoothing(0.1)",
)


@functools.cache
def batches(*changes: str, eager: bool = False) -> Callable[[int], Batch]:
    """Return `step -> batch` of the tiny run with all random transforms and with `changes`; compiled once."""
    config: Config = apply_overrides(tiny_config(data=DATA), changes)
    plan = make_plan(config)
    train = load_splits(plan.splits, ("train",), config.seed)["train"]
    load, order = make_loader(plan, fit_normalization(plan.splits, train)), make_order(plan)
    everywhere = plan.layout.replicated
    arrays, load = put_split(train, everywhere), load if eager else jax.jit(load)

    def batch(step: int) -> Batch:
        made = load(arrays, order.order(step), jax.device_put(np.int32(step), everywhere))
        assert len(made.images.sharding.device_set) == plan.layout.mesh.size
        return jax.device_get(made)

    return batch


def batch(step: int, *changes: str, eager: bool = False) -> Batch:
    return batches(*changes, eager=eager)(step)


RANDAUGMENT = "data.augment=pad_crop(2)|flip_lr|randaugment(2, 9)|cutout(3)"


@pytest.mark.parametrize("changes", [("devices=8",), ("data.micro_batch=4",), ("devices=8", "data.micro_batch=8")])
@pytest.mark.parametrize("augment", [(), pytest.param((RANDAUGMENT,), marks=pytest.mark.slow)])
def test_device_count_and_micro_batches_leave_the_batch_unchanged(
    changes: tuple[str, ...], augment: tuple[str, ...]
) -> None:
    plain = ("data.mix=", *augment)
    for step in (0, 7):
        for found, expected in zip(batch(step, *plain, *changes), batch(step, *plain), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_mixup_and_cutmix_on_eight_devices_equal_those_on_one() -> None:
    """Up to the last bit, because the compiler fuses a multiplication and an addition."""
    for found, expected in zip(batch(7, "devices=8"), batch(7), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_eager_loading_gives_the_compiled_batch() -> None:
    """Up to the last bit, because the compiler fuses a multiplication and an addition."""
    for found, expected in zip(batch(0, eager=True), batch(0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_augmentation_differs_between_steps_seeds_and_examples() -> None:
    plain = "data.mix="
    assert not np.array_equal(batch(1, plain).images, batch(0, plain).images)
    assert not np.array_equal(batch(0, plain, "seed=1").images, batch(0, plain).images)
    assert len(np.unique(batch(0, plain).images.reshape(B, -1), axis=0)) == B
