"""The mean over views against numpy; every example counts once, one program per shape, draws depend on the example."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.config import EvaluationConfig, RunLength
from jaxtrain.data.memory import put_split
from jaxtrain.data.preprocessing.channels import Normalization
from jaxtrain.data.source import ArraySource
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.evaluation.tta import make_tta_evaluate
from jaxtrain.models.fractional_cnns import fractional_cnn
from jaxtrain.models.perceptron import linear
from jaxtrain.nn import draw_outputs, marginalize
from jaxtrain.nn.folding import fold_batch_norm
from jaxtrain.nn.normalization import BatchNorm
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.random import TTA, stream_key
from jaxtrain.run.evaluate_run import evaluate_run
from jaxtrain.run.fit import fit
from jaxtrain.tta.base import Examples, ViewGroup
from jaxtrain.tta.for_run import build_tta
from tests.conftest import tiny_config

CLASSES, SHAPE = 4, (4, 4, 1)
NORMALIZATION = Normalization((0.4,), (0.3,))
_rng = np.random.default_rng(0)
PARAMS = {
    "logits": {
        "kernel": _rng.normal(size=(16, CLASSES)).astype(np.float32),
        "bias": _rng.normal(size=CLASSES).astype(np.float32),
    }
}
KEY = functools.partial(stream_key, 3, TTA)


def split(count: int) -> ArraySource:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    return ArraySource(rng.integers(0, 256, (count, *SHAPE), np.uint8), labels)


def build_groups(views: str, model: nn.Module | None = None, **changes: Any) -> tuple[ViewGroup, ...]:
    config = tiny_config(evaluation=EvaluationConfig(tta=views), **changes)
    model = linear(num_classes=CLASSES) if model is None else model
    return build_tta(config.evaluation.tta, config.data, RunLength(96, 16), model, SHAPE, NORMALIZATION.apply)


def evaluator(groups: tuple[ViewGroup, ...], batch_size: int, devices: int, model: Any = None, loss: Any = None) -> Any:
    layout = make_layout(devices, devices)
    model = linear(num_classes=CLASSES) if model is None else model
    loss = cross_entropy() if loss is None else loss
    evaluate = make_tta_evaluate(model, loss, NORMALIZATION, batch_size, layout, groups, KEY)

    def run(variables: dict[str, Any], source: ArraySource, first: int = 0) -> dict[str, float]:
        placed = jax.device_put(variables, layout.replicated)
        params = placed.pop("params")
        return evaluate(params, placed, put_split(source, layout.replicated), first)

    return run


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def linear_probabilities(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float64)
    return softmax(flat @ PARAMS["logits"]["kernel"] + PARAMS["logits"]["bias"])


def numpy_metrics(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"loss": -np.log(p[np.arange(len(p)), labels]).mean(), "accuracy": (p.argmax(axis=1) == labels).mean()}


@pytest.mark.quick_cases("19-5-8")
@pytest.mark.parametrize(
    ("count", "batch_size", "devices"),
    [(7, 3, 1), (19, 5, 8), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((7, 500, 1), (3, 8, 8)))],
)
def test_tta_averages_probabilities_like_numpy(count: int, batch_size: int, devices: int) -> None:
    source = split(count)
    x = (source.images / 255 - 0.4) / 0.3
    wanted = numpy_metrics((linear_probabilities(x) + linear_probabilities(x[:, :, ::-1])) / 2, source.labels)
    found = evaluator(build_groups("flips"), batch_size, devices)({"params": PARAMS}, source)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_tta_weights_views_by_their_shares() -> None:
    """Five crops of 4x4 from 4x4 and from 6x6; at the first scale, all five are the same."""
    source = split(6)
    views = "multi_scale(scales=[4, 6], size=4, flip=false)"
    x = (source.images / 255 - 0.4) / 0.3
    large = np.asarray(jax.image.resize(x.astype(np.float32), (6, 6, 6, 1), "bilinear"))
    crops = [large[:, i : i + 4, j : j + 4] for i, j in [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]]
    p = linear_probabilities(x) / 2 + np.mean([linear_probabilities(crop) for crop in crops], axis=0) / 2
    found = evaluator(build_groups(views), 500, 1)({"params": PARAMS}, source)
    assert found == pytest.approx(numpy_metrics(p, source.labels), rel=1e-5)


def power(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return a different power of two for each example; the sum tells which were counted."""
    return jnp.exp2(labels.astype(logits.dtype))


@pytest.mark.parametrize(("count", "batch_size", "devices"), [(19, 6, 1), (20, 7, 8)])
def test_tta_counts_every_example_once(count: int, batch_size: int, devices: int) -> None:
    source = ArraySource(split(count).images, np.arange(count, dtype=np.int32))
    evaluate = evaluator(build_groups("flips"), batch_size, devices, loss=power)
    for _ in range(2):
        assert evaluate({"params": PARAMS}, source)["loss"] * count == pytest.approx(2**count - 1, abs=0.5)


def test_tta_loss_is_finite_for_a_probability_that_underflows() -> None:
    def certain(model: Any, variables: Any, images: jax.Array) -> jax.Array:
        return jnp.tile(jnp.asarray([[0.0, 1000.0, 0.0, 0.0]]), (images.shape[0], 1))

    group = ViewGroup((0.5, 0.5), lambda e: e.images, lambda images, number: images, certain)
    source = ArraySource(split(2).images, np.zeros(2, np.int32))
    assert evaluator((group,), 2, 1)({"params": PARAMS}, source) == {"loss": 1000.0, "accuracy": 0.0}


def test_tta_traces_the_model_once_for_each_shape() -> None:
    shapes = []

    class ShapeRecorder(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
            assert not train
            shapes.append(images.shape)
            return nn.Dense(CLASSES)(images.mean(axis=(1, 2)))

    model = ShapeRecorder()
    groups = build_groups("googlenet_crops(scales=[6, 8], size=5)", model)
    groups += build_groups("flips", model)
    params = {"Dense_0": {"kernel": PARAMS["logits"]["kernel"][:1], "bias": PARAMS["logits"]["bias"]}}
    evaluate = evaluator(groups, 3, 1, model)
    first, second = (evaluate({"params": params}, split(7)) for _ in range(2))
    assert shapes == [(3, 5, 5, 1), (3, 4, 4, 1)]
    assert first == second


def examples(places: list[int]) -> Examples:
    pixels = jnp.asarray(split(8).images)[jnp.asarray(places)]
    return Examples(pixels, NORMALIZATION.apply(pixels), jax.vmap(KEY)(jnp.asarray(places)))


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_augmented_tta_views_depend_on_example_and_view_only(first: bool) -> None:
    data = tiny_config().data.replace(normalize_first=first)
    (group,) = build_groups("augmented(3, augment='pad_crop(2)|flip_lr')", data=data)
    assert group.shares == pytest.approx([1 / 3] * 3)

    prepare, view = jax.jit(group.prepare), jax.jit(group.view)

    def shown(places: list[int]) -> np.ndarray:
        prepared = prepare(examples(places))
        return np.stack([view(prepared, jnp.int32(number)) for number in range(3)])

    whole = shown([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(shown([4, 1]), whole[:, [4, 1]])
    assert len({view.tobytes() for views in whole for view in views}) >= 16  # a few of all the views may be the same
    black = 0 if first else -0.4 / 0.3  # the padding, added after normalization or before
    assert np.isclose(whole, black, atol=1e-6).any()


@pytest.mark.slow
def test_tta_of_a_chunk_equals_tta_of_the_whole_split() -> None:
    """Streamed splits are evaluated one chunk at a time."""
    source = split(10)
    evaluate = evaluator(build_groups("augmented(2, augment='pad_crop(2)|flip_lr')"), 500, 1)
    whole = evaluate({"params": PARAMS}, source)
    parts = [
        evaluate({"params": PARAMS}, source.take(np.arange(10)[part]), part.start)
        for part in (slice(0, 5), slice(5, 10))
    ]
    assert np.mean([part["loss"] for part in parts]) == pytest.approx(whole["loss"], rel=1e-5)
    again = evaluate({"params": PARAMS}, source.take(np.arange(5, 10)))
    assert again["loss"] != pytest.approx(parts[1]["loss"], rel=1e-5)


def test_augmented_tta_uses_the_training_augmentation_by_default() -> None:
    (own,), (named,) = build_groups("augmented(2)"), build_groups("augmented(2, 'flip_lr')")
    own_view, named_view = (
        jax.jit(lambda e, g=group: g.view(g.prepare(e), jnp.int32(1)))(examples([0, 1, 2])) for group in (own, named)
    )
    np.testing.assert_array_equal(own_view, named_view)


NORMED = {"mean": np.float32([0.3] * 5), "var": np.float32([2.0] * 5)}


class Normed(nn.Module):
    """A convolution, its normalization, dropout and a dense layer."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = BatchNorm(train=train, name="norm")(nn.Conv(5, (2, 2), padding="VALID")(images))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))


@functools.cache
def normed_variables() -> dict[str, Any]:
    begun = jax.jit(lambda: Normed().init(jax.random.key(1), jnp.zeros((1, *SHAPE)), train=False))()
    return {"params": begun["params"], "batch_stats": {"norm": NORMED}}


def test_tta_draws_equal_marginalize_for_any_batch_size() -> None:
    source, variables, k = split(11), normed_variables(), 4

    def one(place: jax.Array, image: jax.Array) -> jax.Array:
        keys = jnp.stack([jax.random.fold_in(KEY(place), view) for view in range(k)])
        return marginalize(lambda key: jax.nn.softmax(draw_outputs(key, Normed(), variables, image[None])[0]), keys)

    draw_per_example = jax.jit(one)
    p = [draw_per_example(np.int32(i), image) for i, image in enumerate(NORMALIZATION.apply(source.images))]
    wanted = numpy_metrics(np.array(p, np.float64), source.labels)
    groups = build_groups(f"draws({k})", Normed())
    for batch_size, devices in [(4, 1), (500, 8)]:
        assert evaluator(groups, batch_size, devices, Normed())(variables, source) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_tta_draws_can_be_limited_to_fractional_pooling() -> None:
    """Dropout is off: views differ by their pooling regions only, and equal a direct application of the model."""
    model = fractional_cnn(num_classes=CLASSES, width=2, blocks=1, dropout_rate=0.5)
    begun = jax.jit(lambda: model.init(jax.random.key(1), jnp.zeros((1, 8, 8, 1)), train=False))()
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8))
    keys = jax.vmap(KEY)(jnp.arange(3))
    config = tiny_config(evaluation=EvaluationConfig(tta="draws(2, 'pooling')"))
    (group,) = build_tta(config.evaluation.tta, config.data, RunLength(96, 16), model, (8, 8, 1), NORMALIZATION.apply)
    prepared = group.prepare(Examples(pixels, NORMALIZATION.apply(pixels), keys))
    score = jax.jit(lambda seen: group.score(model, begun, seen))
    found = [np.asarray(score(group.view(prepared, jnp.int32(number)))) for number in range(2)]
    assert np.abs(found[0] - found[1]).max() > 1e-4
    by_hand = jax.jit(lambda key, image: model.apply(begun, image[None], train=False, rngs={"dropout": key})[0])
    for place, image in enumerate(NORMALIZATION.apply(pixels)):
        wanted = by_hand(jax.random.fold_in(KEY(jnp.int32(place)), 1), image)
        np.testing.assert_allclose(found[1][place], wanted, atol=1e-6)


@pytest.mark.slow
def test_dense_tta_works_with_folded_batch_normalization() -> None:
    groups, source = build_groups("dense(scales=[4, 6])", Normed()), split(9)
    plain = evaluator(groups, 500, 1, Normed())(normed_variables(), source)
    folded, theirs = fold_batch_norm(Normed(), normed_variables(), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32))
    assert folded.pairs
    assert evaluator(groups, 500, 1, folded)(theirs, source) == pytest.approx(plain, rel=1e-4)
    assert evaluator(groups, 3, 8, folded)(theirs, source) == pytest.approx(plain, rel=1e-4)


@pytest.mark.slow
def test_a_run_reports_final_metrics_with_its_tta(tmp_path: Any) -> None:
    """TTA applies to the final validation and test metrics, not to the training split or earlier evaluations."""
    config = tiny_config(
        evaluation=EvaluationConfig(tta="draws(3)"),
        train_for="2 epochs",
        average="ema(0.5)",
        model="mlp(widths=[8], dropout_rate=0.25)",
    )
    result = fit(config, tmp_path)
    for name in ("train", "validation", "test"):
        own, without = (evaluate_run(tmp_path, name, "last", tta=views) for views in ("own", "none"))
        assert own.pop("tta") == "draws(k=3, layers='all')"
        assert own["loss"] != without["loss"]
        for metric in ("loss", "accuracy"):
            wanted = without if name == "train" else own
            assert result.final[name][metric] == pytest.approx(wanted[metric], rel=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = {line["split"]: line for line in lines}
    assert last["validation"]["loss"] == pytest.approx(
        evaluate_run(tmp_path, "validation", "last", tta=None)["loss"], rel=1e-6
    )
    assert last["test"]["loss"] == result.final["test"]["loss"]
    flipped = evaluate_run(tmp_path, "test", "last", tta="flips")
    assert flipped["tta"] == "flips()"
    assert flipped["loss"] != result.final["test"]["loss"]
