"""Gates of few bits: their probability, that they are independent, and which take how many bits."""

import math

import jax
import numpy as np
import pytest

from jaxtrain.nn.dropout import draw_mask


@pytest.mark.parametrize("probability", [0.5, 0.75, 0.9375, 0.3, 1 - 2**-16])
def test_they_are_true_with_their_probability_and_independent(probability: float) -> None:
    """Of 400 rows of 515; six standard errors each, and for neighbors within a word, across words and across rows."""
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
def test_they_are_the_fields_of_as_many_words_as_are_needed(probability: float, bits: int) -> None:
    """Read bit by bit in Python, the lowest first, and compared in whole numbers."""
    key, count = jax.random.key(7), 77
    words = [int(w) for w in jax.random.bits(key, (-(-count * bits // 32),), np.uint32)]
    stream = [word >> bit & 1 for word in words for bit in range(32)]
    fields = [sum(stream[i * bits + b] << b for b in range(bits)) for i in range(count)]
    expected = [field < probability * 2**bits for field in fields]
    found = draw_mask(jax.random.clone(key), probability, (7, 11))
    np.testing.assert_array_equal(found, np.array(expected).reshape(7, 11))


def test_certain_ones_and_a_single_one() -> None:
    assert draw_mask(jax.random.key(0), 1.0, (9,)).all()
    assert not draw_mask(jax.random.key(0), 0.0, (9,)).any()
    assert draw_mask(jax.random.key(0), 0.5, ()).shape == ()
    assert draw_mask(jax.random.key(0), 0.5, (0, 3)).shape == (0, 3)
