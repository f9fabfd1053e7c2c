"""The compiled parts of a run, made from its plan."""

import functools
from collections.abc import Mapping

import jax

from jaxtrain.data.loader import Arrays, Held, Loader, Shuffle, Whole, training_loader
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.training.evaluated import make_evaluated, make_observe
from jaxtrain.training.evaluation import make_evaluate
from jaxtrain.training.loop import Tools
from jaxtrain.training.metrics import empty_totals
from jaxtrain.training.plan import Plan
from jaxtrain.training.random import AUGMENT, SHUFFLE, host_stream, stream
from jaxtrain.training.run_evaluation import make_run_evaluate
from jaxtrain.training.state import all_finite
from jaxtrain.training.step import make_dispatch
from jaxtrain.training.streamed import evaluate_chunks, training_stream


def make_feed(plan: Plan, normalization: Preprocessing) -> tuple[Loader, Shuffle | Whole]:
    """What gives the batch of a step: a loader, to be called inside `jax.jit`, and the order of the examples."""
    config, layout = plan.config, plan.layout
    key = functools.partial(stream, config.seed)
    size, examples = plan.clock.batch_size, plan.clock.examples
    load = training_loader(
        normalization,
        plan.augment,
        functools.partial(key, AUGMENT),
        size,
        layout.batch,
        late=plan.late,
        mix=plan.mix,
        normalize_first=config.data.normalize_first,
    )
    everywhere = layout.replicated
    draw = functools.partial(host_stream, config.seed, SHUFFLE)
    streamed = bool(config.data.host)
    return load, Whole(everywhere) if streamed or size == examples else Shuffle(draw, examples, size, everywhere)


def make_tools(plan: Plan, normalization: Preprocessing, arrays: Mapping[str, Arrays | StreamedSplit]) -> Tools:
    """The compiled parts of a run."""
    config, layout = plan.config, plan.layout
    load, shuffle = make_feed(plan, normalization)
    train = arrays["train"]
    streamed = isinstance(train, StreamedSplit)
    batches = training_stream(plan, train) if isinstance(train, StreamedSplit) else Held(train)
    evaluate = make_evaluate(plan.model, plan.loss, normalization, config.evaluation.batch_size, layout)
    with_views = evaluate if config.evaluation.views is None else make_run_evaluate(plan, plan.model, normalization)
    return Tools(
        dispatch=make_dispatch(plan.train_step, load, plan.optimizer.learning_rate, layout, streamed=streamed),
        empty=jax.jit(empty_totals, out_shardings=layout.replicated),
        finite=jax.jit(all_finite),
        evaluate=evaluate_chunks(evaluate, config.evaluation.batch_size, layout),
        evaluate_views=evaluate_chunks(with_views, config.evaluation.batch_size, layout),
        evaluated=make_evaluated(plan, normalization, arrays),
        observe=make_observe(plan),
        shuffle=shuffle,
        arrays=dict(arrays),
        examples=batches,
    )
