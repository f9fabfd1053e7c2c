"""Policies against torchvision: tables, magnitudes, each operation, and the distribution of draws."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.augment import randaugment
from jaxtrain.augment.autoaugment_tables import POLICIES
from jaxtrain.augment.chains import AugMixDraw, augmix_given, draw_augmix
from jaxtrain.augment.magnitudes import (
    PolicySpace,
    augmix_space,
    autoaugment_space,
    randaugment_space,
    trivialaugment_space,
)
from jaxtrain.augment.operations import GEOMETRIC, PolicyOperation, operation_given, operations_given
from jaxtrain.augment.policies import draw_operations, draw_sub_policy
from tests.models.torch_port import torchvision

SHAPE = (24, 31, 3)
SPACES = {
    "AutoAugment": (autoaugment_space(SHAPE), 10),
    "RandAugment": (randaugment_space(SHAPE), 31),
    "TrivialAugmentWide": (trivialaugment_space(SHAPE), 31),
    "AugMix": (augmix_space(SHAPE), 10),
}


def ours(name: str) -> str:
    """Convert a name of torchvision, `ShearX`, to ours, `shear_x`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("auto_contrast", "autocontrast")


def oracle(name: str) -> Any:
    torchvision()
    from torchvision.transforms import v2

    return getattr(v2, name)


@pytest.mark.parametrize("name", SPACES)
def test_policy_operations_and_magnitudes_equal_torchvision(name: str) -> None:
    space, bins = SPACES[name]
    theirs = {ours(k): v for k, v in oracle(name)()._AUGMENTATION_SPACE.items()}
    assert set(space.names) == set(theirs) | {"identity"}
    assert space.names[-1] == "identity"
    assert space.magnitudes.shape == (len(space.names), bins)
    for row, signed, operation in zip(space.magnitudes, space.signed, space.names, strict=True):
        magnitudes, theirs_signed = theirs.get(operation, (lambda *_: None, False))
        expected = magnitudes(bins, *SHAPE[:2])
        np.testing.assert_allclose(row, np.zeros(bins) if expected is None else expected.numpy(), atol=1e-6)
        assert signed == theirs_signed


def test_augmix_without_all_operations_equals_torchvision() -> None:
    theirs = oracle("AugMix")._PARTIAL_AUGMENTATION_SPACE
    assert set(augmix_space(SHAPE, all_operations=False).names) == {ours(n) for n in theirs} | {"identity"}


@pytest.mark.parametrize("name", POLICIES)
def test_autoaugment_sub_policies_equal_torchvision(name: str) -> None:
    policies = oracle("AutoAugment")(oracle("AutoAugmentPolicy")[name.upper()])._policies
    found = POLICIES[name]
    assert len(found.names) == len(policies) == 25
    for names, probabilities, bins, theirs in zip(*found, policies, strict=True):
        for operation, probability, place, (their_name, their_probability, their_bin) in zip(
            names, probabilities, bins, theirs, strict=True
        ):
            assert operation == ours(their_name)
            assert probability == np.float32(their_probability)
            assert place == (their_bin or 0)


def photo() -> np.ndarray:
    rng = np.random.default_rng(6)
    smooth = np.cumsum(np.cumsum(rng.normal(size=SHAPE), axis=0), axis=1)
    return (20 + 200 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@pytest.mark.quick_cases("AutoAugment-nearest")
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", ["AutoAugment", "TrivialAugmentWide"])
def test_policy_operation_results_equal_torchvision(name: str, interpolation: Any) -> None:
    """Colors agree to two levels (torchvision does not round); nearest pixels except one in fifty, on borders."""
    space, bins = SPACES[name]
    x = photo()
    which = np.repeat(np.arange(len(space.names), dtype=np.int32), 4)
    places = np.tile([3, 7, bins - 2, bins - 1], len(space.names))
    sign = np.where(space.signed[which], np.tile([1, -1, -1, 1], len(space.names)), 1)
    magnitude = (space.magnitudes[which, places] * sign).astype(np.float32)
    run = jax.jit(jax.vmap(lambda o: operation_given(space.names, o, x, interpolation, 0.0)))
    results = np.asarray(run(PolicyOperation(jnp.array(which), jnp.array(magnitude))))
    transform = oracle(name)(interpolation=interpolation)
    import torch

    given = torch.tensor(x).permute(2, 0, 1)
    names = {ours(n): n for n in [*transform._AUGMENTATION_SPACE, "Identity"]}
    for index, amount, result in zip(which, magnitude, results, strict=True):
        operation = space.names[index]
        expected = transform._apply_image_or_video_transform(
            given, names[operation], float(amount), interpolation=transform.interpolation, fill=transform._fill
        )
        difference = np.abs(result.astype(int) - expected.permute(1, 2, 0).numpy())
        if operation == "solarize":  # a threshold that is a level is one only for us: 2/3 * 255 in float32
            difference = difference[~np.isclose(x, 255 * amount)]
        if operation in GEOMETRIC and interpolation == "nearest":
            assert (difference > 0).mean() < 0.02, (operation, amount)
        else:
            assert difference.max() <= 2, (operation, amount)


@pytest.mark.slow
def test_policy_operations_treat_floats_as_uint8_levels() -> None:
    space, x = SPACES["RandAugment"][0], photo()
    operations = PolicyOperation(
        jnp.array([space.names.index("equalize"), space.names.index("rotate")]), jnp.array([0.0, 20.0])
    )
    run = jax.jit(lambda x: operations_given(space.names, operations, x, "bilinear", 0.0))
    floats = np.asarray(run(x.astype(np.float32) / 255))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats * 255, np.asarray(run(x), float), atol=1e-3)


@pytest.mark.slow
def test_policy_operations_are_applied_in_order() -> None:
    space, x = SPACES["RandAugment"][0], photo()
    run = jax.jit(lambda o, x: operations_given(space.names, o, x, "nearest", 0.0))
    pair = PolicyOperation(jnp.array([0, space.names.index("posterize")]), jnp.array([0.3, 4.0]))
    first, second = (PolicyOperation(pair.which[i : i + 1], pair.magnitude[i : i + 1]) for i in range(2))
    np.testing.assert_array_equal(run(pair, x), run(second, run(first, x)))


def test_trivialaugment_draws_operations_bins_and_signs_uniformly() -> None:
    """Each frequency must be within six standard deviations."""
    space, count = SPACES["TrivialAugmentWide"][0], 20_000
    draw = jax.jit(jax.vmap(lambda k: draw_operations(k, space, 1, None)))
    which, magnitude = (np.asarray(v)[:, 0] for v in draw(jax.random.split(jax.random.key(0), count)))
    share = 1 / len(space.names)
    frequencies = np.bincount(which, minlength=len(space.names)) / count
    assert (np.abs(frequencies - share) < 6 * np.sqrt(share / count)).all()
    turns = magnitude[which == space.names.index("rotate")]
    assert set(np.round(np.abs(turns), 3)) == set(np.round(space.magnitudes[space.names.index("rotate")], 3))
    assert abs((turns < 0).mean() - 30 / 62) < 6 * 0.5 / np.sqrt(len(turns))
    assert (magnitude[which == space.names.index("solarize")] >= 0).all()


@pytest.mark.slow
def test_autoaugment_draws_sub_policies_with_their_probabilities() -> None:
    """The first operation of CIFAR-10's second sub-policy, rotate at bin 2, comes alone there: 0.7 of one in 25."""
    space, count = SPACES["AutoAugment"][0], 20_000
    draw = jax.jit(jax.vmap(lambda k: draw_sub_policy(k, "cifar10", space)))
    which, magnitude = map(np.asarray, draw(jax.random.split(jax.random.key(1), count)))
    turned = which[:, 0] == space.names.index("rotate")
    assert abs(turned.mean() - 0.7 / 25) < 6 * np.sqrt(0.028 / count)
    np.testing.assert_allclose(np.abs(magnitude[turned, 0]), space.magnitudes[space.names.index("rotate"), 2])
    seconds = np.unique(which[turned, 1])
    assert {space.names[i] for i in seconds} == {"translate_x", "identity"}


def test_randaugment_refuses_a_magnitude_beyond_the_bins() -> None:
    with pytest.raises(ValueError, match="m=31 must be from 0 to 30 for bins=31"):
        randaugment(m=31)


@pytest.mark.slow
def test_augmix_mixes_its_chains_by_their_weights() -> None:
    space, x = SPACES["AugMix"][0], photo()
    which = np.array([[space.names.index("rotate"), 13], [space.names.index("solarize"), 1]], np.int32)
    operations = PolicyOperation(jnp.array(which), jnp.array([[20.0, 0.0], [0.5, 0.2]]))
    draw = AugMixDraw(operations, jnp.array([0.3, 0.7]), jnp.float32(0.4))
    run = jax.jit(lambda draw: augmix_given(draw, space.names, x, "bilinear", 0.0))
    chain = jax.jit(lambda o: operations_given(space.names, o, x, "bilinear", 0.0))
    chains = [np.asarray(chain(jax.tree.map(lambda v, i=i: v[i], operations)), float) for i in range(2)]
    expected = 0.4 * x + 0.6 * (0.3 * chains[0] + 0.7 * chains[1])
    error = np.abs(np.asarray(run(draw), float) - expected)
    assert (error > 0.51).mean() < 0.01  # programs may round a level differently
    assert error.max() <= 1.11


def drawn_mixtures(space: PolicySpace, depth: int | None, alpha: float) -> AugMixDraw:
    fast = {"xla_backend_optimization_level": 0}  # of loops for gamma variates, which take long to compile
    draw = jax.jit(jax.vmap(lambda k: draw_augmix(k, space, 3, 3, depth, alpha)), compiler_options=fast)
    return jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(2), 3000)))


@pytest.mark.slow
def test_augmix_draws_have_the_distributions_of_the_paper() -> None:
    """Chains of one to three steps, weak magnitudes; weights from Dirichlet(1, 1, 1) and Beta(1, 1)."""
    space = SPACES["AugMix"][0]
    draw = drawn_mixtures(space, None, 1.0)
    lengths = (draw.operations.which != 13).sum(axis=2)
    assert set(np.unique(lengths)) == {1, 2, 3}
    assert abs(lengths.mean() - 2) < 6 * np.sqrt(2 / 3 / lengths.size)
    assert (np.diff((draw.operations.which == 13).astype(int), axis=2) >= 0).all()  # what is left out comes last
    turns = draw.operations.magnitude[draw.operations.which == space.names.index("rotate")]
    np.testing.assert_allclose(np.unique(np.abs(turns)), space.magnitudes[space.names.index("rotate"), :3], rtol=1e-6)
    np.testing.assert_allclose(draw.weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(draw.weights.mean(axis=0), 1 / 3, atol=6 * np.sqrt(1 / 18 / 3000))
    assert abs(draw.weights.var() - 1 / 18) < 0.005
    assert abs(draw.kept.mean() - 0.5) < 6 / np.sqrt(12 * 3000)
    assert abs(draw.kept.var() - 1 / 12) < 0.01
