"""Random masks from few bits: their probability, independence and number of bits."""

import math

import jax
import numpy as np
import pytest

from jaxtrain.nn.dropout import draw_mask


@pytest.mark.parametrize("probability", [0.5, 0.75, 0.9375, 0.3, 1 - 2**-16])
def test_draw_mask_gives_independent_values_of_the_given_probability(probability: float) -> None:
    """400 rows of 515: six standard errors for the mean and for correlations within and across words and rows."""
    gates = np.asarray(jax.jit(draw_mask, static_argnums=(1, 2))(jax.random.key(0), probability, (400, 515)))
    assert gates.dtype == bool
    variance = probability * (1 - probability)
    assert abs(gates.mean() - probability) <= 6 * math.sqrt(variance / gates.size)
    centered = gates - probability
    for shift in (1, 31, 32, 515):
        product = (centered.reshape(-1)[shift:] * centered.reshape(-1)[:-shift]).mean()
        assert abs(product) <= 6 * variance / math.sqrt(gates.size) + 1e-9


@pytest.mark.quick_cases("0.625-4")
@pytest.mark.parametrize(("probability", "bits"), [(0.5, 1), (0.25, 2), (0.625, 4), (1 - 2**-8, 8), (2**-16, 16)])
def test_draw_mask_uses_the_minimal_number_of_random_bits(probability: float, bits: int) -> None:
    """Expected values are read bit by bit in Python, the lowest first, and compared as integers."""
    key, count = jax.random.key(7), 77
    words = [int(w) for w in jax.random.bits(key, (-(-count * bits // 32),), np.uint32)]
    stream = [word >> bit & 1 for word in words for bit in range(32)]
    fields = [sum(stream[i * bits + b] << b for b in range(bits)) for i in range(count)]
    expected = [field < probability * 2**bits for field in fields]
    found = draw_mask(jax.random.clone(key), probability, (7, 11))
    np.testing.assert_array_equal(found, np.array(expected).reshape(7, 11))


def test_draw_mask_handles_probabilities_0_and_1_and_empty_shapes() -> None:
    assert draw_mask(jax.random.key(0), 1.0, (9,)).all()
    assert not draw_mask(jax.random.key(0), 0.0, (9,)).any()
    assert draw_mask(jax.random.key(0), 0.5, ()).shape == ()
    assert draw_mask(jax.random.key(0), 0.5, (0, 3)).shape == (0, 3)
