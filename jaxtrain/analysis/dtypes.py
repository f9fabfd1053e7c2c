"""The dtypes in which a run computes and stores values, read from its traced step rather than from its config."""

import collections
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn
from jax.extend import core

from jaxtrain.analysis.cost import inner_jaxprs
from jaxtrain.analysis.jaxpr_ops import NORMS
from jaxtrain.models.outputs import abstract_images, main_logits
from jaxtrain.random import MODEL_STREAMS
from jaxtrain.training.plan import Plan

Row = tuple[str, str]
MATMULS_AND_CONVS = ("dot_general", "conv_general_dilated")
_SUMS = frozenset({"reduce_sum", "reduce_max", "reduce_window_sum"})


def dtypes(plan: Plan) -> tuple[Row, ...]:
    """Return rows `(what, dtypes)`; where a row has several dtypes, each is followed by its count."""
    outputs, forward, norms = trace_forward(plan.model, plan.splits.image_shape)
    logits = jax.ShapeDtypeStruct(main_logits(outputs).shape, main_logits(outputs).dtype)
    labels = jax.ShapeDtypeStruct((1, *plan.abstract_batch.labels.shape[1:]), plan.abstract_batch.labels.dtype)
    loss = jax.eval_shape(plan.loss, logits, labels)
    scope = type(plan.model).__name__
    state = plan.abstract
    rows = (
        ("images", _tree_dtypes(plan.abstract_batch.images)),
        ("parameters", _tree_dtypes(state.params)),
        ("matrix multiplications and convolutions", _count_dtypes(matmul_and_conv_dtypes(plan.jaxpr.jaxpr, scope))),
        (
            "statistics of normalizations",
            _count_dtypes([*normalization_dtypes(forward, norms), *_leaves(state.variables)]),
        ),
        ("logits", _tree_dtypes(logits)),
        ("loss", _tree_dtypes(loss)),
        ("gradients", _tree_dtypes(state.params)),  # a gradient has the dtype of its parameter
        ("state of the optimizer", _tree_dtypes(state.opt_state)),
    )
    return tuple((what, names) for what, names in rows if names)


def trace_forward(model: nn.Module, shape: tuple[int, int, int]) -> tuple[Any, core.Jaxpr, set[str]]:
    """Trace a model in training mode on two images: return abstract outputs, jaxpr and paths of normalizations."""
    norms: set[str] = set()
    images = abstract_images(2, shape)

    def record_norm(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module) in NORMS:
            norms.add("/".join(context.module.path))
        return call(*args, **kwargs)

    def forward(images: jax.Array) -> Any:
        key = jax.random.key(0)  # made inside the trace, so that nothing is compiled for it
        variables = model.init(key, images, train=False)
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(MODEL_STREAMS)}
        return model.apply(variables, images, train=True, mutable=True, rngs=rngs)[0]

    with nn.intercept_methods(record_norm):
        jaxpr, outputs = jax.make_jaxpr(forward, return_shape=True)(images)
    return outputs, jaxpr.jaxpr, norms


def matmul_and_conv_dtypes(jaxpr: core.Jaxpr, scope: str) -> Iterator[str]:
    """Yield the dtypes of the operands of the model's matrix multiplications and convolutions.

    Args:
      jaxpr: the training step.
      scope: class name of the model, which is in the name stack of its equations.
    """
    for eqn, stack in equations(jaxpr):
        if eqn.primitive.name in MATMULS_AND_CONVS and scope in stack:
            yield from (str(v.aval.dtype) for v in eqn.invars)


def normalization_dtypes(jaxpr: core.Jaxpr, norms: set[str]) -> Iterator[str]:
    """Yield the dtype of the operand of each sum and maximum inside the normalizations at the paths `norms`."""
    for eqn, stack in equations(jaxpr):
        if eqn.primitive.name in _SUMS and any(f"/{norm}/" in f"/{stack}/" for norm in norms):
            yield str(eqn.invars[0].aval.dtype)


def equations(jaxpr: core.Jaxpr, stack: str = "") -> Iterator[tuple[Any, str]]:
    """Yield every equation, including those of inner jaxprs, with its name stack."""
    for eqn in jaxpr.eqns:
        own = f"{stack}/{eqn.source_info.name_stack}"
        yield eqn, own
        for inner in inner_jaxprs(eqn):
            yield from equations(inner, own)


def _leaves(tree: Any) -> list[str]:
    return [str(leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _tree_dtypes(tree: Any) -> str:
    return _count_dtypes(_leaves(tree))


def _count_dtypes(names: Any) -> str:
    counts = collections.Counter(names)
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())
