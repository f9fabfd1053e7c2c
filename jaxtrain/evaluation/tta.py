"""Evaluation by the mean of a model's probabilities over several views of each image; every example counts once.

A batch goes through the views one after the other, so that memory holds those of one view at a time. The model is
compiled once for each shape of a view, outside of any loop of XLA's, in which convolutions on a CPU are slow.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxtrain.data.loader import normalize, take
from jaxtrain.data.memory import Arrays
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.distributed.mesh import Layout
from jaxtrain.evaluation.evaluate import Evaluate, even_batch, make_evaluate, means_of_all
from jaxtrain.nn.folding import FoldedModel
from jaxtrain.optim.losses import Loss
from jaxtrain.random import VIEWS, stream
from jaxtrain.training.metrics import add_pairs, empty_pairs, measure
from jaxtrain.training.plan import Plan
from jaxtrain.tta.base import Examples, Group
from jaxtrain.tta.for_run import build_tta

Key = Callable[[jax.Array], jax.Array]
"""From the place of an example in its split, int32[], to its typed key."""


def log_probabilities(
    model: nn.Module | FoldedModel, groups: tuple[Group, ...], layout: Layout
) -> Callable[[Any, Callable[[int], Any]], jax.Array]:
    """`(variables, group number -> what its views are cut from) -> log of the mean probabilities f[N, K]`.

    The mean is taken of logarithms, so that a probability that no float can hold still has a finite loss.
    """
    batch, everywhere = layout.batch, layout.replicated
    scores: dict[Any, Any] = {}
    for group in groups:
        if group.score not in scores:
            scored = _scored(model, group, layout)
            scores[group.score] = layout.jit(scored, in_shardings=(None, batch), out_shardings=batch)
    cuts = [layout.jit(group.view, in_shardings=(batch, everywhere), out_shardings=batch) for group in groups]
    add = layout.jit(_added, in_shardings=(batch, batch, everywhere), out_shardings=batch)

    def mean(variables: Any, prepared: Callable[[int], Any]) -> jax.Array:
        total: jax.Array | None = None
        for index, group in enumerate(groups):
            source = prepared(index)
            for number, share in enumerate(group.shares):
                found = scores[group.score](variables, cuts[index](source, np.int32(number)))
                total = add(found if total is None else total, found, _weights(share, first=total is None))
                total.block_until_ready()  # else views pile up ahead of the device
        assert total is not None
        return total

    return mean


def _scored(model: nn.Module | FoldedModel, group: Group, layout: Layout) -> Callable[[Any, Any], jax.Array]:
    def scored(variables: Any, seen: Any) -> jax.Array:
        whole = {**variables, "params": layout.all_gather_params(variables["params"])}
        logits = group.score(model, whole, seen)
        return jax.nn.log_softmax(logits.astype(np.promote_types(logits.dtype, np.float32)))

    return scored


def _weights(share: float, *, first: bool) -> np.ndarray:
    """Logarithms of what the sum so far and a view count for: f32[2]."""
    return np.array([-np.inf if first else 0.0, np.log(share)], np.float32)


def _added(total: jax.Array, found: jax.Array, weights: jax.Array) -> jax.Array:
    before, share = (weights[i].astype(found.dtype) for i in (0, 1))
    return jnp.logaddexp(total + before, found + share)


def make_tta_evaluate(
    model: nn.Module | FoldedModel,
    loss: Loss,
    normalization: Preprocessing,
    batch_size: int,
    layout: Layout,
    groups: tuple[Group, ...],
    key: Key,
) -> Evaluate:
    """A function that evaluates `model` on all views of `groups`, in equal batches of at most about `batch_size`.

    Accuracy is that of the class with the largest mean probability. The loss is the run's, of the logarithm of the mean
    probabilities in place of logits: for cross-entropy minus the logarithm of the mean probability of the class, for
    losses that are not of a softmax a number of its own, not comparable with that of a single view.

    Args:
      model: a Linen module, `(images, *, train)`, or that with its batch normalization folded.
      loss: of the run.
      normalization: of the run.
      batch_size: examples at a time, of one view.
      layout: the devices.
      groups: the views.
      key: of an example.
    """
    everywhere = layout.replicated

    def indices(arrays: Arrays, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = arrays.labels.shape[0]
        places = start + jnp.arange(even_batch(count, batch_size, layout.shares), dtype=jnp.int32)
        return jnp.minimum(places, count - 1), places < count

    def examples(arrays: Arrays, start: jax.Array, first: jax.Array) -> Examples:
        places, _ = indices(arrays, start)
        pixels, _ = take(arrays, places, layout.batch)
        return Examples(pixels, normalize(pixels, normalization), jax.vmap(key)(first + places))

    def finish(log_p: jax.Array, arrays: Arrays, start: jax.Array, pairs: Any) -> Any:
        places, known = indices(arrays, start)
        _, labels = take(arrays, places, layout.batch)
        return add_pairs(pairs, measure(loss(log_p, labels), log_p, labels, known))

    prepares = [_prepared(group, examples, layout) for group in groups]
    mean = log_probabilities(model, groups, layout)
    finished = layout.jit(finish, in_shardings=(layout.batch, *(everywhere,) * 3), out_shardings=everywhere)
    zero = layout.jit(empty_pairs, out_shardings=everywhere)

    def evaluate(params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        count = arrays.labels.shape[0]
        known = {"params": params, **variables}
        pairs = zero()
        for start in range(0, count, even_batch(count, batch_size, layout.shares)):
            begin = np.int32(start)
            log_p = mean(known, lambda index, begin=begin: prepares[index](arrays, begin, np.int32(first)))  # type: ignore[misc]
            pairs = finished(log_p, arrays, begin, pairs)
        return means_of_all(pairs, count)

    return evaluate


def _prepared(group: Group, examples: Callable[[Arrays, jax.Array, jax.Array], Examples], layout: Layout) -> Any:
    return layout.jit(
        lambda arrays, start, first: group.prepare(examples(arrays, start, first)),
        in_shardings=layout.replicated,
        out_shardings=layout.batch,
    )


def make_run_evaluate(plan: Plan, model: nn.Module | FoldedModel, normalization: Preprocessing) -> Evaluate:
    """Return the evaluation that the run's config asks for: with test-time augmentation, or of the images as they are.

    Args:
      plan: the plan of the run.
      model: the plan's model, or that with its batch normalization folded.
      normalization: the preprocessing, fitted.
    """
    config, layout = plan.config, plan.layout
    size = config.evaluation.batch_size
    groups = build_tta(
        config.evaluation.views,
        config.data,
        plan.clock,
        plan.model,
        plan.splits.image_shape,
        functools.partial(normalize, normalization=normalization),
    )
    if not groups:
        return make_evaluate(model, plan.loss, normalization, size, layout)
    key = functools.partial(stream, config.seed, VIEWS)
    return make_tta_evaluate(model, plan.loss, normalization, size, layout, groups, key)
