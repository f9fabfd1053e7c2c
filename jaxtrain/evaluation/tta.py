"""Evaluation with test-time augmentation (TTA): the mean of a model's probabilities over several views of each image.

Every example counts once. The views of a batch are evaluated one after the other, so that memory holds one view at a
time. The model is compiled once for each shape of a view, and not inside an XLA loop, in which convolutions on a CPU
are slow.
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
from jaxtrain.evaluation.evaluate import Evaluate, even_batch_size, fetch_means, make_evaluate
from jaxtrain.nn.folding import FoldedModel
from jaxtrain.optim.losses import Loss
from jaxtrain.random import TTA, stream_key
from jaxtrain.training.metrics import add_pairs, empty_pairs, metric_pairs
from jaxtrain.training.plan import Plan
from jaxtrain.tta.base import Examples, ViewGroup
from jaxtrain.tta.for_run import build_tta

Key = Callable[[jax.Array], jax.Array]
"""A function from the index of an example in its split, int32[], to its typed key."""


def log_probabilities(
    model: nn.Module | FoldedModel, groups: tuple[ViewGroup, ...], layout: Layout
) -> Callable[[Any, Callable[[int], Any]], jax.Array]:
    """Return `(variables, prepare) -> log of the mean probabilities f[N, K]`.

    `prepare` maps the index of a group to the prepared batch from which its views are made. The mean is computed from
    log-probabilities (logaddexp), so that a probability below the smallest float still has a finite loss.

    Args:
      model: the Linen module, or the module with folded batch normalization.
      groups: the groups of views.
      layout: the mesh of devices and the shardings on it.
    """
    batch, replicated = layout.batch, layout.replicated
    scores: dict[Any, Any] = {}
    for group in groups:
        if group.score not in scores:
            score = _make_score(model, group, layout)
            scores[group.score] = layout.jit(score, in_shardings=(None, batch), out_shardings=batch)
    views = [layout.jit(group.view, in_shardings=(batch, replicated), out_shardings=batch) for group in groups]
    add = layout.jit(_add_weighted, in_shardings=(batch, batch, replicated), out_shardings=batch)

    def mean(variables: Any, prepare: Callable[[int], Any]) -> jax.Array:
        total: jax.Array | None = None
        for index, group in enumerate(groups):
            source = prepare(index)
            for view, share in enumerate(group.shares):
                log_p = scores[group.score](variables, views[index](source, np.int32(view)))
                total = add(log_p if total is None else total, log_p, _log_weights(share, first=total is None))
                total.block_until_ready()  # otherwise the host dispatches many views, which fill the memory
        assert total is not None
        return total

    return mean


def _make_score(model: nn.Module | FoldedModel, group: ViewGroup, layout: Layout) -> Callable[[Any, Any], jax.Array]:
    """Return `(variables, views) -> log-probabilities f[N, K]`, at least in float32."""

    def score(variables: Any, views: Any) -> jax.Array:
        whole = {**variables, "params": layout.all_gather_params(variables["params"])}
        logits = group.score(model, whole, views)
        return jax.nn.log_softmax(logits.astype(np.promote_types(logits.dtype, np.float32)))

    return score


def _log_weights(share: float, *, first: bool) -> np.ndarray:
    """Return f32[2], the logarithms of the weights of the sum so far (0 for the first view) and of the next view."""
    return np.array([-np.inf if first else 0.0, np.log(share)], np.float32)


def _add_weighted(total: jax.Array, log_p: jax.Array, log_weights: jax.Array) -> jax.Array:
    before, share = (log_weights[i].astype(log_p.dtype) for i in (0, 1))
    return jnp.logaddexp(total + before, log_p + share)


def make_tta_evaluate(
    model: nn.Module | FoldedModel,
    loss: Loss,
    normalization: Preprocessing,
    batch_size: int,
    layout: Layout,
    groups: tuple[ViewGroup, ...],
    key: Key,
) -> Evaluate:
    """Return a function that evaluates `model` on all views of `groups`, in equal batches of about `batch_size`.

    The predicted class is the one with the largest mean probability. The loss gets the logarithms of the mean
    probabilities instead of logits. For cross-entropy it is minus the logarithm of the mean probability of the class.
    For losses that do not use a softmax, the value is not comparable with that of a single view.

    Args:
      model: the Linen module, `(images, *, train)`, or the module with folded batch normalization.
      loss: the loss of the run.
      normalization: the preprocessing, fitted.
      batch_size: the number of examples of one view in a batch.
      layout: the mesh of devices and the shardings on it.
      groups: the groups of views.
      key: the function from the index of an example to its key.
    """
    replicated = layout.replicated

    def indices(arrays: Arrays, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        count = arrays.labels.shape[0]
        padded = start + jnp.arange(even_batch_size(count, batch_size, layout.shares), dtype=jnp.int32)
        return jnp.minimum(padded, count - 1), padded < count

    def examples(arrays: Arrays, start: jax.Array, first: jax.Array) -> Examples:
        chosen, _ = indices(arrays, start)
        pixels, _ = take(arrays, chosen, layout.batch)
        return Examples(pixels, normalize(pixels, normalization), jax.vmap(key)(first + chosen))

    def finish(log_p: jax.Array, arrays: Arrays, start: jax.Array, pairs: Any) -> Any:
        chosen, mask = indices(arrays, start)
        _, labels = take(arrays, chosen, layout.batch)
        return add_pairs(pairs, metric_pairs(loss(log_p, labels), log_p, labels, mask))

    prepares = [_make_prepare(group, examples, layout) for group in groups]
    mean = log_probabilities(model, groups, layout)
    compiled = layout.jit(finish, in_shardings=(layout.batch, *(replicated,) * 3), out_shardings=replicated)
    zero = layout.jit(empty_pairs, out_shardings=replicated)

    def evaluate(params: Any, variables: Any, arrays: Arrays, first: int = 0) -> dict[str, float]:
        count = arrays.labels.shape[0]
        all_variables = {"params": params, **variables}
        pairs = zero()
        for start in range(0, count, even_batch_size(count, batch_size, layout.shares)):
            begin = np.int32(start)
            log_p = mean(all_variables, lambda index, begin=begin: prepares[index](arrays, begin, np.int32(first)))  # type: ignore[misc]
            pairs = compiled(log_p, arrays, begin, pairs)
        return fetch_means(pairs, count)

    return evaluate


def _make_prepare(
    group: ViewGroup, examples: Callable[[Arrays, jax.Array, jax.Array], Examples], layout: Layout
) -> Any:
    return layout.jit(
        lambda arrays, start, first: group.prepare(examples(arrays, start, first)),
        in_shardings=layout.replicated,
        out_shardings=layout.batch,
    )


def make_run_evaluate(plan: Plan, model: nn.Module | FoldedModel, normalization: Preprocessing) -> Evaluate:
    """Return the evaluation that the run's config sets: with test-time augmentation, or on the plain images.

    Args:
      plan: the plan of the run.
      model: the plan's model, or that model with folded batch normalization.
      normalization: the preprocessing, fitted.
    """
    config, layout = plan.config, plan.layout
    size = config.evaluation.batch_size
    groups = build_tta(
        config.evaluation.tta,
        config.data,
        plan.clock,
        plan.model,
        plan.splits.image_shape,
        functools.partial(normalize, normalization=normalization),
    )
    if not groups:
        return make_evaluate(model, plan.loss, normalization, size, layout)
    key = functools.partial(stream_key, config.seed, TTA)
    return make_tta_evaluate(model, plan.loss, normalization, size, layout, groups, key)
