"""The compiled parts of a run, made from its plan."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from jaxtrain.data.loader import Arrays, Held, Loader, Shuffle, Whole, training_loader
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.data.streaming import StreamedSplit
from jaxtrain.evaluation.averaged import make_evaluated, make_observe
from jaxtrain.evaluation.evaluate import make_evaluate
from jaxtrain.evaluation.run_evaluation import make_run_evaluate
from jaxtrain.random import AUGMENT, stream
from jaxtrain.run.data_wait import Metered
from jaxtrain.run.loop import Tools
from jaxtrain.sharding import placed
from jaxtrain.training.augmentations import training_sightings
from jaxtrain.training.dispatch import make_dispatch
from jaxtrain.training.metrics import Totals, empty_totals, turned
from jaxtrain.training.multi_step import Several
from jaxtrain.training.orders import epoch_draw
from jaxtrain.training.plan import Plan
from jaxtrain.training.precision import at_matmul_precision
from jaxtrain.training.state import all_finite
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
        sightings=training_sightings(config, plan.clock),
    )
    everywhere = layout.replicated
    if plan.splits.streamed or size == examples:
        return load, Whole(everywhere)
    return load, Shuffle(epoch_draw(config), examples, size, everywhere)


def make_tools(plan: Plan, normalization: Preprocessing, arrays: Mapping[str, Arrays | StreamedSplit]) -> Tools:
    """The compiled parts of a run."""
    config, layout = plan.config, plan.layout
    load, shuffle = make_feed(plan, normalization)
    train = arrays["train"]
    streamed = isinstance(train, StreamedSplit)
    batches = Metered(training_stream(plan, train)) if isinstance(train, StreamedSplit) else Held(train)
    evaluate = make_evaluate(plan.model, plan.loss, normalization, config.evaluation.batch_size, layout)
    with_views = evaluate if config.evaluation.views is None else make_run_evaluate(plan, plan.model, normalization)
    dispatch = functools.partial(
        make_dispatch,
        plan.shared_step,
        load,
        plan.optimizer.learning_rate,
        layout,
        state=layout.of_state(plan.abstract),
    )
    turn = layout.jit(turned, out_shardings=layout.replicated)
    return Tools(
        dispatch=dispatch(streamed=streamed),
        several=Several(dispatch(several=True), layout.replicated) if plan.together.most > 1 else None,
        turn=turn,
        empty=lambda: turn(placed(_blank(), layout.replicated))[1],
        finite=layout.jit(all_finite, out_shardings=layout.replicated),
        evaluate=evaluate_chunks(at_matmul_precision(evaluate, config), config.evaluation.batch_size, layout),
        evaluate_views=evaluate_chunks(at_matmul_precision(with_views, config), config.evaluation.batch_size, layout),
        evaluated=at_matmul_precision(make_evaluated(plan, normalization, arrays), config),
        observe=make_observe(plan),
        shuffle=shuffle,
        arrays=dict(arrays),
        examples=batches,
    )


def _blank() -> Totals:
    """Totals of any numbers, for `turn`, which looks at none to give those of no step."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(empty_totals))
