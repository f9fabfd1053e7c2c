"""Augmentations in configs: parsed, built for the shape of the images, or refused with an error."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxtrain.augment.principal_colors import fit_color_pca
from jaxtrain.config import Config, DataConfig
from jaxtrain.config.overrides import apply_overrides
from jaxtrain.data.splits import load_splits
from jaxtrain.errors import ConfigError
from jaxtrain.training.plan import add_training_colors, make_plan


def with_augment(config: Config, augment: str) -> Config:
    return apply_overrides(config, [f"data.augment={augment}"])


def test_config_reads_a_list_of_augmentations(config: Config) -> None:
    changed = with_augment(
        config, "pad_crop(4)|flip_lr|cutout(3, fill=[0.4])|rotate([-5, 20], fill=edge)|randaugment(2, 9)"
    )
    assert [spec.name for spec in changed.data.augment] == ["pad_crop", "flip_lr", "cutout", "rotate", "randaugment"]
    assert changed.data.augment[3].options["degrees"] == (-5.0, 20.0)
    assert make_plan(changed).augment


@pytest.mark.parametrize(
    ("augment", "path", "words"),
    [
        ("flip_lr|cutout(16)", "data.augment.1", "cutout: a square of 16 can hide an image of 4x4"),
        ("rotate(fill=[0.1, 0.2])", "data.augment.0", "fill has 2 numbers, but the images have 1 channels"),
    ],
)
def test_plan_refuses_augmentations_that_do_not_fit_the_images(
    config: Config, augment: str, path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(with_augment(config, augment))
    assert caught.value.path == path
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ("rotate(degrees=200)", "200"),
        ("rotate(fill=green)", "unknown value 'green'"),
        ("brightness(strength=-1)", "out of range"),
        ("posterize(bits=9)", "out of range"),
        ("autoaugment(cifar)", "did you mean 'cifar10'"),
        ("cutout(0)", "out of range"),
        ("augmix(severity=11)", "out of range"),
        ("projective(0.7)", "out of range"),
        ("hue(0.6)", "out of range"),
    ],
)
def test_config_refuses_augmentation_options_out_of_range(config: Config, augment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.augment\.0") as caught:
        with_augment(config, augment)
    assert words in str(caught.value)


def test_plan_reports_errors_of_augmentation_factories_as_config_errors(config: Config) -> None:
    with pytest.raises(ConfigError, match="m=31 must be from 0 to 30"):
        make_plan(dataclasses.replace(config, data=dataclasses.replace(config.data, augment="randaugment(m=31)")))


@pytest.mark.slow
def test_plan_builds_augmentations_for_the_image_shape_of_the_dataset(config: Config) -> None:
    """A square of 16 fits images of 16x12."""
    data = DataConfig(
        dataset="synthetic(height=16, width=12, channels=3, num_classes=3, train_examples=96, test_examples=20)",
        batch_size=16,
        augment="cutout(16)|augmix",
    )
    assert make_plan(dataclasses.replace(config, data=data)).augment


def test_fancy_pca_uses_the_principal_colors_of_the_training_split(config: Config) -> None:
    """`add_training_colors` fills in missing principal axes; axes given in the config stay."""
    data = "synthetic(height=4, width=4, channels=3, num_classes=3, train_examples=96, test_examples=20)"
    changed = with_augment(apply_overrides(config, [f"data.dataset={data}"]), "fancy_pca(2.0)")
    assert "eigenvalues" not in changed.data.augment[0].options
    plan = make_plan(changed)
    train = load_splits(plan.splits, ("train",), changed.seed)["train"]
    fitted = fit_color_pca([train.images])
    given = with_augment(
        changed, f"fancy_pca(2.0, {list(fitted.eigenvalues)}, {[list(v) for v in fitted.eigenvectors]})"
    )
    key, images = jax.random.key(0), train.images[:4]
    shifted = add_training_colors(plan, train).augment(key, images)
    np.testing.assert_array_equal(shifted, make_plan(given).augment(jax.random.clone(key), images))
    assert not np.array_equal(shifted, images)
    assert add_training_colors(make_plan(given), train).augment is not None
    with pytest.raises(ConfigError, match="the principal axes have 2 channels, but the images 3"):
        make_plan(with_augment(changed, "fancy_pca(2.0, [1, 1], [[1, 0], [0, 1]])"))
