"""Kronecker factors of the Fisher matrix of dense and convolutional layers.

For a layer with inputs a (with a 1 appended for the bias) and gradients g of the log-likelihood with respect to its
outputs, the Fisher matrix is approximated by E[a a'] x E[g g'] (Martens & Grosse 2015, equation 1); for a convolution
by the sum over positions of the first, and the mean over positions of the second (Grosse & Martens 2016, equation 27).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.optim.trees import widest

Fisher = Literal["sampled", "exact", "empirical"]


class Factors(NamedTuple):
    """Of a layer with I inputs (a patch of a convolution, flattened as its kernel is) and O outputs.

    Attributes:
      inputs: f[I, I], or f[I + 1, I + 1] with a bias: E[a a'].
      outputs: f[O, O]: E[g g'].
    """

    inputs: jax.Array
    outputs: jax.Array


def kronecker_factors(
    output_fn: Callable[[Any], jax.Array],
    params: Any,
    key: jax.Array,
    *,
    fisher: Fisher = "sampled",
    output_loss: Callable[[jax.Array], jax.Array] | None = None,
) -> dict[str, Factors]:
    """The factors of every `nn.Dense` and `nn.Conv` that `output_fn` calls, by path ("block/conv1").

    Args:
      output_fn: `params -> logits f[N, K]`, a Linen model applied to a batch.
      params: its parameters.
      key: for the labels that are drawn, where they are.
      fisher: of the distribution softmax(logits). "sampled" draws a label for each example, which is unbiased at the
        cost of one backward pass; "exact" takes the expectation over all labels, in K passes; "empirical" takes the
        data's own labels, which is not the Fisher matrix (Kunstner et al. 2019, arXiv:1905.12558).
      output_loss: `logits -> mean loss`, for "empirical".

    Raises:
      ValueError: a layer is called twice in one pass, or is a convolution in groups.
    """
    layers = _Layers()
    shapes = jax.eval_shape(lambda p: layers.run(output_fn, p, None), params)[1]
    if not shapes:
        return {}
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    logits, backward, inputs = jax.vjp(lambda z: layers.run(output_fn, params, z), zeros, has_aux=True)
    outputs = _output_factors(logits, backward, key, fisher, output_loss)
    return {name: Factors(_second_moment(x, sum_positions=True), outputs[name]) for name, x in inputs.items()}


class _Layers:
    """Runs a model with zeros added to the outputs of its layers, by which they can be differentiated."""

    def run(
        self, output_fn: Callable[[Any], jax.Array], params: Any, zeros: Mapping[str, jax.Array] | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits, and by layer its inputs as rows f[N, positions, I]; without `zeros`, its outputs as they are."""
        seen: dict[str, jax.Array] = {}

        def intercept(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if not isinstance(module, nn.Dense | nn.Conv) or context.method_name != "__call__":
                return call(*args, **kwargs)
            name = "/".join(module.path)
            if name in seen:
                raise ValueError(
                    f"kfac cannot tell apart the uses of the layer {name}, which is called twice in a pass"
                )
            out = call(*args, **kwargs)
            if zeros is None:
                seen[name] = out
                return out
            seen[name] = _rows(module, args[0])
            return out + zeros[name]

        with nn.intercept_methods(intercept):
            return output_fn(params), seen


def _rows(module: nn.Dense | nn.Conv, x: jax.Array) -> jax.Array:
    """Inputs of a layer as rows f[N, positions, I], with a 1 at the end of each where there is a bias."""
    if isinstance(module, nn.Conv):
        x = _patches(module, x)
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1) if module.use_bias else x


def _patches(module: nn.Conv, x: jax.Array) -> jax.Array:
    """f[N, H', W', h * w * C]: what each output sees, flattened in the order of an HWIO kernel."""
    name = "/".join(module.path)
    if module.feature_group_count != 1 or x.ndim != 4:
        raise ValueError(f"kfac has factors for convolutions of images in one group, which {name} is not")
    size = tuple(module.kernel_size)
    padding = _pairs(module.padding) if not isinstance(module.padding, str) else module.padding
    patches = jax.lax.conv_general_dilated_patches(
        x,
        size,
        _pair(module.strides),
        padding,
        lhs_dilation=_pair(module.input_dilation),
        rhs_dilation=_pair(module.kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    n, h, w, _ = patches.shape
    by_channel = patches.reshape(n, h, w, x.shape[-1], *size)  # jax flattens channels first
    return by_channel.transpose(0, 1, 2, 4, 5, 3).reshape(n, h, w, -1)


def _pair(value: Any) -> tuple[int, int]:
    if value is None:
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pairs(padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    first, second = ((p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding)
    return first, second


def _output_factors(
    logits: jax.Array, backward: Any, key: jax.Array, fisher: Fisher, output_loss: Any
) -> dict[str, jax.Array]:
    """By layer, E[g g'] over examples, positions and the labels that `fisher` means."""
    probabilities = jax.nn.softmax(logits)
    classes = logits.shape[-1]

    def moments(cotangent: jax.Array) -> dict[str, jax.Array]:
        (gradients,) = backward(cotangent)
        return {
            name: _second_moment(g.reshape(g.shape[0], -1, g.shape[-1]), sum_positions=False)
            for name, g in gradients.items()
        }

    if fisher == "sampled":
        labels = jax.random.categorical(key, logits)
        return moments(probabilities - jax.nn.one_hot(labels, classes, dtype=logits.dtype))
    if fisher == "empirical":
        if output_loss is None:
            raise ValueError(
                'kfac with fisher="empirical" needs the loss: call update(..., output_loss=logits -> loss)'
            )
        return moments(jax.grad(output_loss)(logits) * logits.shape[0])

    def of_class(c: jax.Array) -> dict[str, jax.Array]:
        one_hot = jax.nn.one_hot(c, classes, dtype=logits.dtype)[None]
        weight = jnp.sqrt(jax.lax.dynamic_slice_in_dim(probabilities, c, 1, axis=-1))
        return moments(weight * (probabilities - one_hot))

    by_class = jax.lax.map(of_class, jnp.arange(classes, dtype=jnp.int32))
    return jax.tree.map(lambda x: x.sum(axis=0), by_class)


def _second_moment(rows: jax.Array, *, sum_positions: bool) -> jax.Array:
    """The mean over examples of x x', summed over positions or averaged, of rows f[N, positions, D]."""
    rows = rows.astype(widest(rows))
    count = rows.shape[0] if sum_positions else rows.shape[0] * rows.shape[1]
    flat = rows.reshape(-1, rows.shape[-1])
    return flat.T @ flat / count
