"""Data-dependent initialization between layers (Kraehenbuehl et al. 2016, arXiv:1511.06856, algorithm 2).

A kernel W changes at the rate |gradient| / |W|. In a homogeneous chain (ReLU, pooling), multiplying one kernel by s
multiplies its rate by 1 / s and every other layer's rate by s. Factors whose product is 1 can therefore make all rates
equal without changing the function that the net computes.
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
from jaxtrain.nn.layer_calls import ROOT_NAME, VARIES, LayerCall, check_batch, check_report, is_varying, rewrite_layers

_RATIO = "mean_over_deviation"


def change_rates(model: nn.Module, variables: Mapping[str, Any], key: jax.Array, images: Any) -> dict[str, jax.Array]:
    """Return the rate at which each layer's kernel changes under a random loss, relative to the kernel's size.

    The loss of an example is the inner product of the model's outputs and a vector drawn from N(0, I) for this example
    (section 3.2 of the paper). For a kernel W with window positions and inputs flattened to columns j, the rate is

        C = mean over j of sqrt(mean over outputs i of E[(dloss / dW_ij)^2]) / sqrt(mean of W^2),

    with E over the examples, each with its own gradient. The paper divides by the norm of W. Its authors' program and
    this function divide by the root mean square, so that layers of different sizes are compared weight by weight.

    Args:
      model: a Linen module, `(images, *, train)`, called in evaluation mode.
      variables: the model's variables, complete.
      key: the key for the random losses.
      images: f[N, ...].

    Returns:
      f[] by layer ("block/conv1"), in the order of the model's calls.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> init_key, key = jax.random.split(jax.random.key(0))
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 2, 2, 2)
      >>> model = jaxtrain.models.mlp(num_classes=3, widths=(5,))
      >>> variables = model.init(init_key, images, train=False)
      >>> list(jaxtrain.nn.change_rates(model, variables, key, images))
      ['fc1', 'logits']
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
    """Return variables with which the kernels of all layers change at the same rate, as measured by `change_rates`.

    Algorithm 2 of the paper multiplies each kernel by (C_k / C)^(damping / 2) until all rates C_k are near their
    geometric mean C. The product of these factors is 1, so the outputs of a chain keep their scale. Biases are adapted
    so that each channel keeps the ratio of its mean to its standard deviation on the batch. In a homogeneous chain this
    leaves the net's function unchanged, up to rounding. (The paper prints C / C_k as the base. A rate falls when its
    kernel grows, so the base must be C_k / C, as in the authors' program.)

    The method is for chains and for branches that are concatenated. If a branch is added to a shortcut, its share of
    the sum changes with its scale. Branches of two layers converge; branches of three layers (bottlenecks) may not.

    Args:
      model: a Linen module, `(images, *, train)`, called in evaluation mode.
      key: the key for the initial variables and the random losses.
      images: f[N, ...], a batch as in training. Each example is differentiated on its own.
      variables: the initial variables; None for those of `within_layer`, which is the paper's complete method.
      damping: alpha, 0.25 in the paper: the step of the rates' logarithms toward their mean in each iteration.
      tolerance: the greatest difference of a rate's logarithm from the mean of the logarithms.
      max_iterations: the number of iterations after which an error is raised.

    Returns:
      All variables of the model; parameters that belong to no layer, and other collections, are unchanged.

    Raises:
      ValueError: the batch has one example, the model has no layers, a layer does not vary or has no gradient, or the
        rates do not become equal. Under `jax.jit` the last three are not detected.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return flax.linen.Dense(3, name="second")(flax.linen.relu(flax.linen.Dense(5, name="first")(images)))
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> images = jnp.linspace(-1.0, 1.0, 32).reshape(4, 8)
      >>> variables = Net().init(keys[0], images, train=False)
      >>> equal = jaxtrain.nn.between_layers(Net(), keys[1], images, variables)
      >>> old, new = (jax.tree.map(jnp.linalg.norm, v["params"]) for v in (variables, equal))
      >>> first, second = (float(new[name]["kernel"] / old[name]["kernel"]) for name in ("first", "second"))
      >>> print(f"factors {first:.2f} and {second:.2f}, product {first * second:.2f}")
      factors 1.15 and 0.87, product 1.00
    """
    check_batch(images, "between_layers")
    images = jnp.asarray(images)
    start_key, loss_key = jax.random.split(key)
    initial = within_layer(model, start_key, images) if variables is None else variables
    names = _names(model, initial, images)
    if not names:
        check_report(model, {}, "between_layers")

    def run(initial: Any, loss_key: jax.Array, images: jax.Array) -> Any:
        losses = _random_losses(model, initial, loss_key, images)
        _, report = rewrite_layers(model, initial, images, _measure)
        ratios = {name: measurements[_RATIO] for name, measurements in report.items()}

        def rates(params: Any) -> jax.Array:
            return _log_rates(model, {**initial, "params": params}, losses, images, names)

        def scale(params: Any, logs: jax.Array) -> Any:
            factors = jnp.exp(damping / 2 * (logs - logs.mean()))
            by_name = dict(zip(names, factors, strict=True))
            return _scale_layers(model, {**initial, "params": params}, images, by_name, ratios)["params"]

        return *_balance(initial["params"], rates, scale, tolerance, max_iterations), report

    params, first, last, report = jax.jit(run)(dict(initial), loss_key, images)
    check_report(model, report, "between_layers")
    _check_rates(names, first, last, tolerance, max_iterations)
    return {**initial, "params": params}


def _balance(
    params: Any,
    rates: Callable[[Any], jax.Array],
    scale: Callable[[Any, jax.Array], Any],
    tolerance: float,
    max_iterations: int,
) -> tuple[Any, jax.Array, jax.Array]:
    """Scale parameters until the logarithms of their rates are equal; also return the first and last logarithms."""

    def is_unequal(state: Any) -> jax.Array:
        _, logs, i = state
        return (jnp.abs(logs - logs.mean()).max() >= tolerance) & (i < max_iterations)

    def iterate(state: Any) -> Any:
        params, logs, i = state
        scaled = scale(params, logs)
        return scaled, rates(scaled), i + 1

    first = rates(params)
    params, last, _ = jax.lax.while_loop(is_unequal, iterate, (params, first, jnp.int32(0)))
    return params, first, last


def _names(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> list[str]:
    """Return the layers' names in the order of calls."""
    names: list[str] = []

    def trace(variables: Any, images: jax.Array) -> None:
        names.extend(rewrite_layers(model, variables, images, _measure)[1])

    jax.eval_shape(trace, variables, images)
    return names


def _random_losses(
    model: nn.Module, variables: Mapping[str, Any], key: jax.Array, images: jax.Array
) -> list[jax.Array]:
    """Draw the random factors, f[N, ...], of each of the model's outputs in the loss."""
    outputs = jax.tree.leaves(jax.eval_shape(lambda v, x: model.apply(v, x, train=False), dict(variables), images))
    keys = jax.random.split(key, len(outputs))
    return [jax.random.normal(k, y.shape, y.dtype) for k, y in zip(keys, outputs, strict=True)]


def _measure(layer: LayerCall) -> Any:
    outputs = layer.outputs(layer.params)
    mean, stddev = layer.moments(outputs)
    ratio = mean / jnp.where(stddev > 0, stddev, 1)
    return layer.params, outputs, {VARIES: is_varying(layer, outputs), _RATIO: ratio}


def _scale_layers(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    factors: Mapping[str, jax.Array],
    ratios: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """Return the variables with each kernel times its factor, and biases that keep the channels' ratios."""
    names = list(factors)

    def rule(layer: LayerCall) -> Any:
        name = names[layer.index]
        kernel = layer.params["kernel"] * factors[name].astype(layer.params["kernel"].dtype)
        mean, stddev = layer.moments(layer.outputs(layer.replace_kernel(kernel)))
        params = layer.replace_kernel(kernel, ratios[name] * stddev - mean)
        return params, layer.outputs(params), {}

    return rewrite_layers(model, variables, images, rule)[0]


def _log_rates(
    model: nn.Module, variables: Mapping[str, Any], losses: list[jax.Array], images: jax.Array, names: list[str]
) -> jax.Array:
    """Return f[layers], the logarithms of the rates."""
    params = traverse_util.flatten_dict(dict(variables["params"]), sep="/")
    paths = ["/".join((*([] if name == ROOT_NAME else [name]), "kernel")) for name in names]
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
                f"between_layers cannot make the rates of change equal: the rate of the layer {name} is 0 or not "
                "finite; check whether later layers have kernels of 0"
            )
    spread = float(jnp.abs(last - last.mean()).max())
    if not spread < tolerance:
        raise ValueError(
            f"between_layers: after {iterations} iterations the logarithms of the rates of change differ from their "
            f"mean by up to {spread:.3g}, the tolerance is {tolerance:g}: allow more iterations or more tolerance; "
            "residual branches of three or more layers may not converge"
        )
