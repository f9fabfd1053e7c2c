"""Metrics as sums and counts, against numpy means; masked examples enter neither."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.training.metrics import (
    NO_STEP,
    Totals,
    add_pairs,
    empty_pairs,
    empty_totals,
    means,
    metric_pairs,
    pack_totals,
    unpack_totals,
)

_rng = np.random.default_rng(0)
LOGITS = _rng.normal(size=(7, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0], np.int32)
LOSSES = _rng.uniform(size=7).astype(np.float32)


def test_loss_and_accuracy_of_a_batch_equal_numpy():
    pairs = metric_pairs(jnp.asarray(LOSSES), jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert {name: (total.dtype, count.dtype) for name, (total, count) in pairs.items()} == dict.fromkeys(
        ("loss", "accuracy"), (jnp.float32, jnp.int32)
    )
    assert means(pairs) == pytest.approx(
        {"loss": LOSSES.mean(), "accuracy": (LOGITS.argmax(1) == LABELS).mean()}, rel=1e-6
    )


def test_masked_examples_do_not_count_even_if_they_are_not_finite():
    """Padding may hold any value; a NaN times 0 would still be a NaN."""
    mask = np.array([True, False, True, True, False, False, True])
    losses, logits = LOSSES.copy(), LOGITS.copy()
    losses[1], logits[4] = np.nan, np.inf
    pairs = metric_pairs(jnp.asarray(losses), jnp.asarray(logits), jnp.asarray(LABELS), jnp.asarray(mask))
    assert int(pairs["loss"][1]) == int(pairs["accuracy"][1]) == 4
    right = (LOGITS.argmax(1) == LABELS)[mask]
    assert means(pairs) == pytest.approx({"loss": LOSSES[mask].mean(), "accuracy": right.mean()}, rel=1e-6)


def test_metrics_of_two_batches_add_up_to_those_of_all_examples():
    """Batches of 5 and 2: the mean over examples, not the mean of two means."""
    parts = [metric_pairs(*(jnp.asarray(x[s]) for x in (LOSSES, LOGITS, LABELS))) for s in (slice(5), slice(5, 7))]
    total = add_pairs(add_pairs(empty_pairs(), parts[0]), parts[1])
    whole = metric_pairs(jnp.asarray(LOSSES), jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert means(total) == pytest.approx(means(whole), rel=1e-6)
    assert means(total)["loss"] != pytest.approx(np.mean([means(p)["loss"] for p in parts]), rel=1e-3)


def test_empty_totals_are_zero_and_have_no_bad_step():
    totals = empty_totals()
    assert [float(x) for x in jax.tree.leaves(totals.pairs)] == [0.0] * 4
    assert int(totals.first_bad) == NO_STEP == 2**31 - 1


def test_packing_and_unpacking_totals_is_exact_to_the_bit():
    pairs = {"loss": (jnp.float32(-0.0), jnp.int32(-5)), "accuracy": (jnp.float32(1e-45), jnp.int32(2**31 - 1))}
    totals = Totals(pairs, jnp.float32(np.nan), jnp.float32(np.inf), jnp.int32(7))
    numbers, empty = jax.jit(pack_totals)(totals)
    found = unpack_totals(numbers)
    assert jax.tree.structure(found) == jax.tree.structure(totals)
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(totals), strict=True):
        assert (got.dtype, got.tobytes()) == (wanted.dtype, np.asarray(wanted).tobytes())
    jax.tree.map(np.testing.assert_array_equal, empty, empty_totals())
