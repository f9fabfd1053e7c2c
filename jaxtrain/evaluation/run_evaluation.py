"""The evaluation that a run's config asks for: by its views where it has some, else of the images as they are."""

import functools

from flax import linen as nn

from jaxtrain.data.loader import normalize
from jaxtrain.data.preprocessing.base import Preprocessing
from jaxtrain.evaluation.evaluate import Evaluate, make_evaluate
from jaxtrain.evaluation.tta import make_view_evaluate
from jaxtrain.nn.folding import FoldedModel
from jaxtrain.random import VIEWS, stream
from jaxtrain.training.plan import Plan
from jaxtrain.tta.for_run import build_views


def make_run_evaluate(plan: Plan, model: nn.Module | FoldedModel, normalization: Preprocessing) -> Evaluate:
    """An evaluation of `model`, which is the plan's or that with its batch normalization folded."""
    config, layout = plan.config, plan.layout
    size = config.evaluation.batch_size
    groups = build_views(
        config,
        plan.clock,
        plan.model,
        plan.splits.image_shape,
        functools.partial(normalize, normalization=normalization),
    )
    if not groups:
        return make_evaluate(model, plan.loss, normalization, size, layout)
    key = functools.partial(stream, config.seed, VIEWS)
    return make_view_evaluate(model, plan.loss, normalization, size, layout, groups, key)
