"""What a run computes and keeps in which dtype, read off its traced step, and not from what was asked for."""

import collections
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn
from jax.extend import core

from jaxtrain.analysis.cost import inner_jaxprs
from jaxtrain.analysis.jaxpr_ops import NORMS
from jaxtrain.models.outputs import abstract_images, logits_of
from jaxtrain.random import MODEL_STREAMS
from jaxtrain.training.plan import Plan

Row = tuple[str, str]
PRODUCTS = ("dot_general", "conv_general_dilated")
_SUMS = frozenset({"reduce_sum", "reduce_max", "reduce_window_sum"})


def dtypes(plan: Plan) -> tuple[Row, ...]:
    """Rows `(what, dtypes)`; where there are several, with how many there are of each."""
    outputs, forward, norms = traced_forward(plan.model, plan.splits.image_shape)
    logits = jax.ShapeDtypeStruct(logits_of(outputs).shape, logits_of(outputs).dtype)
    labels = jax.ShapeDtypeStruct((1, *plan.abstract_batch.labels.shape[1:]), plan.abstract_batch.labels.dtype)
    loss = jax.eval_shape(plan.loss, logits, labels)
    scope = type(plan.model).__name__
    state = plan.abstract
    rows = (
        ("images", _of(plan.abstract_batch.images)),
        ("parameters", _of(state.params)),
        ("products and convolutions", _counted(products(plan.jaxpr.jaxpr, scope))),
        ("statistics of normalizations", _counted([*statistics(forward, norms), *_leaves(state.variables)])),
        ("logits", _of(logits)),
        ("loss", _of(loss)),
        ("gradients", _of(state.params)),  # which jax gives the dtype of what they are by
        ("state of the optimizer", _of(state.opt_state)),
    )
    return tuple((what, found) for what, found in rows if found)


def traced_forward(model: nn.Module, shape: tuple[int, int, int]) -> tuple[Any, core.Jaxpr, set[str]]:
    """Outputs by shape, the jaxpr and the paths of the normalizations of a model in training, on two images."""
    norms: set[str] = set()
    images = abstract_images(2, shape)

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module) in NORMS:
            norms.add("/".join(context.module.path))
        return call(*args, **kwargs)

    def forward(images: jax.Array) -> Any:
        key = jax.random.key(0)  # in the trace, where it is not compiled
        variables = model.init(key, images, train=False)
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(MODEL_STREAMS)}
        return model.apply(variables, images, train=True, mutable=True, rngs=rngs)[0]

    with nn.intercept_methods(note):
        jaxpr, outputs = jax.make_jaxpr(forward, return_shape=True)(images)
    return outputs, jaxpr.jaxpr, norms


def products(jaxpr: core.Jaxpr, scope: str) -> Iterator[str]:
    """The dtype of each operand of each product and convolution of the model, whose class is called `scope`."""
    for eqn, stack in equations(jaxpr):
        if eqn.primitive.name in PRODUCTS and scope in stack:
            yield from (str(v.aval.dtype) for v in eqn.invars)


def statistics(jaxpr: core.Jaxpr, norms: set[str]) -> Iterator[str]:
    """The dtype of what each sum inside a normalization adds up."""
    for eqn, stack in equations(jaxpr):
        if eqn.primitive.name in _SUMS and any(f"/{norm}/" in f"/{stack}/" for norm in norms):
            yield str(eqn.invars[0].aval.dtype)


def equations(jaxpr: core.Jaxpr, stack: str = "") -> Iterator[tuple[Any, str]]:
    """Every equation, those inside others too, with the names of the scopes around it."""
    for eqn in jaxpr.eqns:
        own = f"{stack}/{eqn.source_info.name_stack}"
        yield eqn, own
        for inner in inner_jaxprs(eqn):
            yield from equations(inner, own)


def _leaves(tree: Any) -> list[str]:
    return [str(leaf.dtype) for leaf in jax.tree.leaves(tree)]


def _of(tree: Any) -> str:
    return _counted(_leaves(tree))


def _counted(names: Any) -> str:
    counts = collections.Counter(names)
    if len(counts) < 2:
        return next(iter(counts), "")
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())
