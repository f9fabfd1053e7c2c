"""Mixup, CutMix and label smoothing: against loops in numpy, with schedules, on devices, and in configs."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jaxtrain
from jaxtrain.augment.mixing import MIXINGS, cutmix, label_smoothing, mixup, mixup_or_cutmix
from jaxtrain.augment.mixing.base import SoftBatch, compose_mixings
from jaxtrain.augment.mixing.images import MixWeights, cutmix_weights, draw_share, mix_given, mixup_weights
from jaxtrain.config import Config, DataConfig, dumps, loads
from jaxtrain.config.overrides import apply_overrides
from jaxtrain.errors import ConfigError
from jaxtrain.optim.losses import binary_cross_entropy, cross_entropy, focal
from jaxtrain.training.metrics import metric_pairs
from jaxtrain.training.plan import make_plan
from tests.conftest import examples, slow

N, H, W, K = 8, 6, 5, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(N, H, W, 3)).astype(np.float32)
LABELS = RNG.integers(0, K, N).astype(np.int32)
TARGETS = np.eye(K, dtype=np.float32)[LABELS]
KEY, STEP = functools.partial(jax.random.key, 3), np.int32(0)


def soft() -> SoftBatch:
    return SoftBatch(jnp.asarray(IMAGES), jnp.asarray(TARGETS))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_the_weighted_average_of_neighbors(share: float) -> None:
    weights = MixWeights(*(w[None] for w in mixup_weights(jnp.float32(share))))
    images, targets = mix_given(weights, soft())
    for i in range(N):
        np.testing.assert_allclose(images[i], share * IMAGES[i] + (1 - share) * IMAGES[i - 1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(targets[i], share * TARGETS[i] + (1 - share) * TARGETS[i - 1], rtol=1e-6)


def cutmix_by_hand(share: float, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute CutMix pixel by pixel with the box of the authors' code: corners clipped to the image."""
    root = np.sqrt(np.float32(1) - np.float32(share))
    rows, columns = int(np.float32(H) * root) // 2, int(np.float32(W) * root) // 2
    images = IMAGES.copy()
    inside = 0
    for i in range(max(row - rows, 0), min(row + rows, H)):
        for j in range(max(column - columns, 0), min(column + columns, W)):
            images[:, i, j] = np.roll(IMAGES, 1, axis=0)[:, i, j]
            inside += 1
    left = 1 - inside / (H * W)
    return images, left * TARGETS + (1 - left) * np.roll(TARGETS, 1, axis=0)


@examples(25)
@given(st.floats(0, 1, width=32), st.integers(0, H - 1), st.integers(0, W - 1))
def test_cutmix_equals_the_box_of_the_authors(share: float, row: int, column: int) -> None:
    weights = _cutmix(jnp.float32(share), jnp.array([row, column], jnp.int32))
    images, targets = _mixed(weights, soft())
    expected = cutmix_by_hand(share, row, column)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_allclose(targets, expected[1], atol=1e-6)


_mixed = jax.jit(mix_given)
_cutmix = jax.jit(lambda share, center: MixWeights(*(w[None] for w in cutmix_weights(share, center, H, W))))


@pytest.mark.slow
def test_mixing_shares_are_beta_distributed() -> None:
    """Mean 1/2 and variance 1 / (8 alpha + 4), within six standard errors of 20,000 draws."""
    for alpha in (0.2, 1.0, 3.0):
        keys = jax.random.split(jax.random.key(1), 20_000)
        shares = np.asarray(jax.jit(jax.vmap(functools.partial(draw_share, alpha=alpha)))(keys), np.float64)
        variance = 1 / (8 * alpha + 4)
        assert abs(shares.mean() - 0.5) < 6 * np.sqrt(variance / shares.size)
        assert abs(shares.var() - variance) < 6 * np.sqrt(((shares - 0.5) ** 2).var() / shares.size)
        assert shares.min() >= 0
        assert shares.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "per"),
    [
        *((mixup, "batch"), (cutmix, "example"), (mixup_or_cutmix, "example")),
        *(slow(mixup, "example"), slow(cutmix, "batch"), slow(mixup_or_cutmix, "batch")),
    ],
)
def test_mixing_draws_once_per_batch_or_per_example(factory: Any, per: Any) -> None:
    """Images of ones and zeros make the mixing weights visible."""
    images = jnp.zeros((N, H, W, 1)).at[::2].set(1)
    targets = jnp.eye(2)[jnp.arange(N) % 2]
    mixed = jax.jit(factory(per=per))(jax.random.key(5), STEP, SoftBatch(images, targets))
    kept = np.where(np.arange(N) % 2, mixed.targets[:, 1], mixed.targets[:, 0])
    assert (len(np.unique(kept.round(5))) == 1) == (per == "batch")
    np.testing.assert_allclose(mixed.images.mean(axis=(1, 2, 3)), mixed.targets[:, 0], atol=1e-5)
    np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, atol=1e-6)


@pytest.mark.slow
def test_mixup_or_cutmix_chooses_cutmix_with_its_share() -> None:
    """The test uses 300 draws; after mixup no pixel comes from one image alone."""
    images = jnp.zeros((2, H, W, 1)).at[0].set(1)
    keys = jax.random.split(jax.random.key(2), 300)
    mix = mixup_or_cutmix(cutmix_share=0.25)
    mixed = jax.jit(jax.vmap(lambda key: mix(key, jnp.int32(0), SoftBatch(images, jnp.eye(2))).images))(keys)
    cut = np.isin(np.asarray(mixed[:, 0]), (0, 1)).all(axis=(1, 2, 3)).mean()
    assert abs(cut - 0.25) < 6 * np.sqrt(0.25 * 0.75 / 300) + 0.02


def test_label_smoothing_equals_smoothing_in_the_loss() -> None:
    logits = jnp.asarray(RNG.normal(size=(N, K)), jnp.float32)
    smoothed = label_smoothing(0.1)(KEY(), STEP, soft())
    np.testing.assert_array_equal(smoothed.images, IMAGES)
    for loss in (cross_entropy, binary_cross_entropy):
        np.testing.assert_allclose(loss()(logits, smoothed.targets), loss(0.1)(logits, LABELS), rtol=1e-5)


@pytest.mark.slow
def test_mixing_at_probability_0_or_after_its_end_changes_nothing() -> None:
    for mixing in (mixup(1.0, 0.0), cutmix(until=3), mixup_or_cutmix(until=3, per="example"), label_smoothing(until=3)):
        mixed = jax.jit(mixing)(KEY(), np.int32(3), soft())
        np.testing.assert_array_equal(mixed.images, IMAGES)
        np.testing.assert_array_equal(mixed.targets, TARGETS)
    before = jax.jit(cutmix(until=3))(KEY(), np.int32(2), soft())
    assert not np.array_equal(before.images, IMAGES)


def test_mixup_probability_may_follow_a_schedule() -> None:
    mix = jax.jit(mixup(1.0, lambda step: jnp.where(step < 10, 0.0, 1.0)))
    assert np.array_equal(mix(KEY(), np.int32(9), soft()).images, IMAGES)
    assert not np.array_equal(mix(KEY(), np.int32(10), soft()).images, IMAGES)


def test_composed_mixings_use_separate_keys_and_are_reproducible() -> None:
    mix = compose_mixings([mixup(1.0), mixup(1.0)], K)
    compiled = jax.jit(mix)
    once = compiled(KEY(), STEP, IMAGES, LABELS)
    np.testing.assert_array_equal(once[0], compiled(KEY(), STEP, IMAGES, LABELS)[0])
    eager = mix(KEY(), jnp.int32(0), jnp.asarray(IMAGES), jnp.asarray(LABELS))
    np.testing.assert_allclose(eager[0], once[0], rtol=1e-5, atol=1e-6)
    first = mixup(1.0)(jax.random.fold_in(KEY(), 0), jnp.int32(0), soft())
    second = mixup(1.0)(jax.random.fold_in(KEY(), 1), jnp.int32(0), first)
    np.testing.assert_allclose(once[1], second.targets, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(compiled(jax.random.key(4), STEP, IMAGES, LABELS)[0], once[0])


@pytest.mark.slow
@pytest.mark.parametrize("per", [slow("batch"), "example"])
def test_mixing_on_eight_devices_equals_one_device(per: Any) -> None:
    mix = jax.jit(compose_mixings([mixup_or_cutmix(per=per), label_smoothing()], K))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    key, step = jax.device_put((KEY(), STEP), everywhere)
    divided = mix(key, step, *jax.device_put((IMAGES, LABELS), place))
    assert len(divided[0].sharding.device_set) == 8
    alone = mix(KEY(), STEP, IMAGES, LABELS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), divided, alone)


@pytest.mark.parametrize("loss", [cross_entropy(), cross_entropy(0.1), binary_cross_entropy(), focal(2.0)])
def test_losses_for_one_hot_targets_equal_those_for_class_indices(loss: Any) -> None:
    logits = jnp.asarray(RNG.normal(size=(N, K)), jnp.float32)
    np.testing.assert_allclose(loss(logits, TARGETS), loss(logits, LABELS), rtol=1e-5)


def test_accuracy_for_soft_targets_uses_the_most_probable_class() -> None:
    logits = jnp.eye(3) * 5
    targets = jnp.array([[0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [0.0, 0.3, 0.7]])
    total, count = metric_pairs(jnp.zeros(3), logits, targets)["accuracy"]
    assert (float(total), int(count)) == (2.0, 3)


def with_mix(config: Config, mix: str, **changes: Any) -> Config:
    return apply_overrides(dataclasses.replace(config, **changes), [f"data.mix={mix}"])


def test_config_with_mixings_is_parsed_and_applied(config: Config) -> None:
    mixed = with_mix(config, "mixup_or_cutmix(until='75%')|label_smoothing('linear(0.1, end=0)')")
    assert loads(dumps(mixed)) == mixed
    plan = make_plan(mixed)
    assert plan.mix is not None
    assert plan.abstract_batch.labels.shape == (16, 3)
    _, targets = plan.mix(jnp.int32(8), jnp.zeros((16, 4, 4, 1)), jnp.zeros(16, jnp.int32))
    share = 0.1 * (1 - 8 / 12)
    np.testing.assert_allclose(targets, [[1 - share + share / 3, share / 3, share / 3]] * 16, rtol=1e-5)
    assert make_plan(config).mix is None


@pytest.mark.slow
def test_every_mixing_works_with_its_defaults() -> None:
    for name in MIXINGS.names():
        mixed = jax.jit(MIXINGS.create(name))(KEY(), STEP, soft())
        assert (mixed.images.shape, mixed.images.dtype) == (IMAGES.shape, IMAGES.dtype)
        np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("mix", "path", "words"),
    [
        ("mixup|cutmx", "data.mix.1", "did you mean 'cutmix'"),
        ("mixup(alpha=0)", "data.mix.0", "out of range"),
        ("mixup(probability=1.5)", "data.mix.0", "out of range"),
        ("cutmix(per=pixel)", "data.mix.0", "unknown value 'pixel'"),
        ("flip_lr|mixup(probability='linear(2)')", "data.mix.0", "flip_lr"),
        ("label_smoothing|mixup(probability='linear(2)')", "data.mix.1", "probability must stay in [0, 1]"),
        ("mixup(probability='plateau(0.1)')", "data.mix.0", "cannot follow the validation metric"),
        ("mixup(until=3)", "data.mix.0", "duration"),
    ],
)
def test_config_refuses_invalid_mixings(config: Config, mix: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(with_mix(config, mix))
    assert caught.value.path.startswith(path)
    assert words in caught.value.message


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "template_mse"])
def test_mixing_refuses_a_loss_that_accepts_only_class_indices(config: Config, loss: str) -> None:
    hard = dataclasses.replace(config, loss=loss)
    assert make_plan(hard).abstract_batch.labels.dtype == np.int32
    with pytest.raises(ConfigError, match=f"the loss {loss} accepts only class indices") as caught:
        make_plan(with_mix(hard, "mixup"))
    assert caught.value.path == "data.mix"


def test_mixing_refuses_batches_of_one_and_full_batch_optimizers(config: Config) -> None:
    with pytest.raises(ConfigError, match="a batch has one"):
        make_plan(with_mix(config, "mixup", data=dataclasses.replace(config.data, batch_size=1)))
    whole = DataConfig(dataset=config.data.dataset, batch_size="all")
    with pytest.raises(ConfigError, match=r"set data\.mix=\[\]"):
        make_plan(with_mix(config, "mixup", data=whole, optimizer="newton", model="mlp(widths=[8])"))


def test_augment_after_replaces_the_augmentation_late_in_the_run(config: Config) -> None:
    changed = apply_overrides(config, ["data.augment_until='50%'", "data.augment_after=pad_crop(1)"])
    late = make_plan(changed).switch
    assert late is not None
    assert late.first_step == 6
    with pytest.raises(ConfigError, match=r"it replaces data\.augment, which never ends"):
        make_plan(apply_overrides(config, ["data.augment_after=pad_crop(1)"]))
    with pytest.raises(ConfigError) as caught:
        make_plan(apply_overrides(config, ["data.augment_until=1 epochs", "data.augment_after=cutout(16)"]))
    assert caught.value.path == "data.augment_after.0"


@pytest.mark.slow
def test_losses_of_a_randomized_run_are_independent_of_micro_batches(config: Config, tmp_path: Path) -> None:
    """With a changing augmentation and mixing, losses are the same for whole batches and micro-batches of 4."""
    mixed = apply_overrides(
        config, ["data.mix=mixup_or_cutmix|label_smoothing", "data.augment_until=50%", "logging.tensorboard=false"]
    )
    losses = []
    for micro in ("none", "4"):
        result = jaxtrain.fit(apply_overrides(mixed, [f"data.micro_batch={micro}"]), tmp_path / micro)
        assert result.status == "finished"
        lines = [json.loads(line) for line in (tmp_path / micro / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
