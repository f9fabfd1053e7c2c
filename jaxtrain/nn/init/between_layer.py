"""Data-dependent initialization between layers (Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 2).

A kernel W changes at the rate |gradient| / |W|. In a chain that is homogeneous (ReLU, pooling), multiplying one kernel
by s multiplies its rate by 1 / s and every other layer's by s; so factors whose product is 1 can make all rates equal,
and leave what the net computes as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from jaxtrain.annotations import PositiveFloat, PositiveInt
from jaxtrain.nn.init.within_layer import within_layer
from jaxtrain.nn.layer_calls import VARIES, WHOLE, Layer, check_batch, check_report, rewrite, varies

_RATIO = "mean_over_deviation"


def change_rates(model: nn.Module, variables: Mapping[str, Any], key: jax.Array, images: Any) -> dict[str, jax.Array]:
    """How fast the kernel of each layer changes, relative to its size, under a random loss.

    The loss of an example is the product of the model's outputs and a vector drawn from N(0, I) for this example
    (section 3.2 of the paper). For a kernel W, its places and inputs taken together as columns j,

        C = mean over j of sqrt(mean over outputs i of E[(dloss / dW_ij)^2]) / sqrt(mean of W^2),

    E being over the examples, each with its own gradient. The paper divides by the norm of W; its authors' program and
    this by the root mean square, so that layers of different sizes compare weight by weight.

    Args:
      model: a Linen module, `(images, *, train)`, called as in evaluation.
      variables: all that it has.
      key: of the random losses.
      images: f[N, ...].

    Returns:
      f[] by layer ("block/conv1"), in the order of the model's calls.
    """
    images = jnp.asarray(images)
    losses = _random_losses(model, variables, key, images)
    names = _names(model, variables, images)
    return dict(zip(names, jnp.exp(_log_rates(model, variables, losses, images, names)), strict=True))


def between_layers(
    model: nn.Module,
    key: jax.Array,
    images: Any,
    variables: Mapping[str, Any] | None = None,
    *,
    damping: PositiveFloat = 0.25,
    tolerance: PositiveFloat = 0.05,
    max_iterations: PositiveInt = 100,
) -> dict[str, Any]:
    """Variables with which the kernels of all layers change at the same rate, as `change_rates` measures it.

    Algorithm 2 of the paper: until all rates C_k are near their geometric mean C, each kernel is multiplied by
    (C_k / C)^(damping / 2). The product of these factors is 1, so that in a chain outputs keep their scale. Biases
    follow what comes in: each channel keeps the ratio of its mean to its deviation on the batch, which in a homogeneous
    chain leaves what the net computes as it was, up to rounding. (The paper's exponent is printed as that of C / C_k;
    a rate falls when its kernel grows, so that it must be C_k / C, as in the authors' program.)

    It is meant for chains, and for branches that are concatenated. Where a branch is added to a shortcut, its share in
    the sum changes with its scale; branches of two layers settle, those of three, bottlenecks, may not.

    Args:
      model: a Linen module, `(images, *, train)`, called as in evaluation.
      key: of random numbers.
      images: f[N, ...], a batch as training would have it. Each example is differentiated on its own.
      variables: what to begin with; what `within_layer` gives where None, which is the paper's whole method.
      damping: alpha; 0.25 in the paper. It takes the logarithms of the rates so far toward their mean each time.
      tolerance: of the logarithm of a rate.
      max_iterations: after which it is given up.

    Returns:
      All variables of the model; parameters that are no layer's, and other collections, as they were.

    Raises:
      ValueError: for a batch of one; a model without layers; a layer that does not vary or has no gradient; rates that
        do not become equal. Under `jax.jit` the last three go unseen.
    """
    check_batch(images, "between_layers")
    images = jnp.asarray(images)
    start_key, loss_key = jax.random.split(key)
    begun = within_layer(model, start_key, images) if variables is None else variables
    names = _names(model, begun, images)
    if not names:
        check_report(model, {}, "between_layers")

    def run(begun: Any, loss_key: jax.Array, images: jax.Array) -> Any:
        losses = _random_losses(model, begun, loss_key, images)
        _, report = rewrite(model, begun, images, _measure)
        ratios = {name: measured[_RATIO] for name, measured in report.items()}

        def rates(params: Any) -> jax.Array:
            return _log_rates(model, {**begun, "params": params}, losses, images, names)

        def scaled(params: Any, logs: jax.Array) -> Any:
            factors = jnp.exp(damping / 2 * (logs - logs.mean()))
            by_name = dict(zip(names, factors, strict=True))
            return _scaled(model, {**begun, "params": params}, images, by_name, ratios)["params"]

        return *_balanced(begun["params"], rates, scaled, tolerance, max_iterations), report

    params, first, last, report = jax.jit(run)(dict(begun), loss_key, images)
    check_report(model, report, "between_layers")
    _check_rates(names, first, last, tolerance, max_iterations)
    return {**begun, "params": params}


def _balanced(
    params: Any,
    rates: Callable[[Any], jax.Array],
    scaled: Callable[[Any, jax.Array], Any],
    tolerance: float,
    max_iterations: int,
) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters scaled again and again until the logarithms of their rates are equal; these, before and after."""

    def unequal(state: Any) -> jax.Array:
        _, logs, i = state
        return (jnp.abs(logs - logs.mean()).max() >= tolerance) & (i < max_iterations)

    def balance(state: Any) -> Any:
        params, logs, i = state
        changed = scaled(params, logs)
        return changed, rates(changed), i + 1

    first = rates(params)
    params, last, _ = jax.lax.while_loop(unequal, balance, (params, first, jnp.int32(0)))
    return params, first, last


def _names(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> list[str]:
    """The layers in the order of calls."""
    names: list[str] = []

    def trace(variables: Any, images: jax.Array) -> None:
        names.extend(rewrite(model, variables, images, _measure)[1])

    jax.eval_shape(trace, variables, images)
    return names


def _random_losses(
    model: nn.Module, variables: Mapping[str, Any], key: jax.Array, images: jax.Array
) -> list[jax.Array]:
    """For each of the model's outputs, f[N, ...], numbers to multiply it with."""
    outputs = jax.tree.leaves(jax.eval_shape(lambda v, x: model.apply(v, x, train=False), dict(variables), images))
    keys = jax.random.split(key, len(outputs))
    return [jax.random.normal(k, y.shape, y.dtype) for k, y in zip(keys, outputs, strict=True)]


def _measure(layer: Layer) -> Any:
    outputs = layer.outputs(layer.params)
    mean, deviation = layer.moments(outputs)
    ratio = mean / jnp.where(deviation > 0, deviation, 1)
    return layer.params, outputs, {VARIES: varies(layer, outputs), _RATIO: ratio}


def _scaled(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    factors: Mapping[str, jax.Array],
    ratios: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """The variables with each kernel times its factor, and biases with which the channels keep their ratios."""
    names = list(factors)

    def rule(layer: Layer) -> Any:
        name = names[layer.index]
        kernel = layer.params["kernel"] * factors[name].astype(layer.params["kernel"].dtype)
        mean, deviation = layer.moments(layer.outputs(layer.with_kernel(kernel)))
        params = layer.with_kernel(kernel, ratios[name] * deviation - mean)
        return params, layer.outputs(params), {}

    return rewrite(model, variables, images, rule)[0]


def _log_rates(
    model: nn.Module, variables: Mapping[str, Any], losses: list[jax.Array], images: jax.Array, names: list[str]
) -> jax.Array:
    """f[layers]: the logarithms of the rates."""
    params = traverse_util.flatten_dict(dict(variables["params"]), sep="/")
    paths = ["/".join((*([] if name == WHOLE else [name]), "kernel")) for name in names]
    kernels = {path: params[path] for path in paths}

    def loss(kernels: Any, image: jax.Array, factors: list[jax.Array]) -> jax.Array:
        changed = traverse_util.unflatten_dict({**params, **kernels}, sep="/")
        outputs = jax.tree.leaves(model.apply({**variables, "params": changed}, image[None], train=False))
        return jnp.stack([(f * y[0]).sum() for f, y in zip(factors, outputs, strict=True)]).sum()

    def add(total: Any, example: Any) -> Any:
        gradients = jax.grad(loss)(kernels, *example)
        return jax.tree.map(lambda t, g: t + jnp.square(g.astype(t.dtype)), total, gradients), None

    zeros = {path: jnp.zeros(k.shape, np.promote_types(k.dtype, np.float32)) for path, k in kernels.items()}
    total, _ = jax.lax.scan(add, zeros, (images, losses))

    def log_rate(path: str) -> jax.Array:
        kernel = kernels[path].astype(total[path].dtype)
        columns = jnp.sqrt((total[path] / images.shape[0]).mean(axis=-1))
        return jnp.log(columns.mean()) - jnp.log(jnp.square(kernel).mean()) / 2

    return jnp.stack([log_rate(path) for path in paths])


def _check_rates(names: list[str], first: jax.Array, last: jax.Array, tolerance: float, iterations: int) -> None:
    if isinstance(last, jax.core.Tracer):
        return
    for name, log in zip(names, first, strict=True):
        if not bool(jnp.isfinite(log)):
            raise ValueError(
                f"between_layers cannot make the rates of change equal: that of the layer {name} is 0 or not finite; "
                "are kernels above it 0?"
            )
    spread = float(jnp.abs(last - last.mean()).max())
    if not spread < tolerance:
        raise ValueError(
            f"after {iterations} iterations of between_layers the logarithms of the rates of change differ from their "
            f"mean by up to {spread:.3g}, not less than {tolerance:g}: allow more iterations or a greater tolerance; "
            "residual branches of three layers or more may not settle at all"
        )
