"""Kronecker factors of the Fisher matrix of dense and convolutional layers.

A layer has inputs a (with a 1 appended for the bias) and gradients g of the log-likelihood with respect to its outputs.
Its Fisher matrix is approximated by E[a a'] x E[g g'] (Martens & Grosse 2015, equation 1). For a convolution it is the
sum over positions of the first, and the mean over positions of the second (Grosse & Martens 2016, theorem 1). Both are
means over examples. A dense layer that is applied at several positions counts as a convolution of size 1.

All products are in full precision. An accelerator's default for float32 has ten bits or fewer, and the inverse of a
factor would magnify that error.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import tracers
from flax.linen.linear import canonicalize_padding

from jaxtrain.optim.trees import widest

Fisher = Literal["sampled", "exact", "empirical"]


class Factors(NamedTuple):
    """Factors of a layer with I inputs (for a convolution a patch, flattened like its kernel) and O outputs.

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
    """Return the factors of the layers that `output_fn` calls, by path ("block/conv1").

    These are every `nn.Dense`, and every `nn.Conv` on images in one group with zero padding. Subclasses of these are
    left out, since they may use their kernels in another way.

    Args:
      output_fn: a Linen model applied to a batch, `params -> logits f[N, K]`.
      params: the parameters of the model.
      key: the random key of the sampled labels, for "sampled".
      fisher: the labels for the gradients. "sampled" draws one per example from softmax(logits): unbiased, one backward
        pass. "exact" takes the expectation over all labels: K backward passes. "empirical" takes the labels of the
        data, which does not give the Fisher matrix (Kunstner et al. 2019, arXiv:1905.12558).
      output_loss: the mean loss, `logits -> f[]`, for "empirical".

    Raises:
      ValueError: if a layer is called twice in one pass, or inside a transformation such as nn.remat; if `output_loss`
        is missing for "empirical".
    """
    shapes = jax.eval_shape(lambda p: _run_model(output_fn, p, None), params)[1]
    if not shapes:
        return {}
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    logits, backward, inputs = jax.vjp(lambda z: _run_model(output_fn, params, z), zeros, has_aux=True)
    outputs = _output_factors(logits, backward, key, fisher, output_loss)
    return {name: Factors(_second_moment(x, logits.shape[0]), outputs[name]) for name, x in inputs.items()}


def _run_model(
    output_fn: Callable[[Any], jax.Array], params: Any, zeros: Mapping[str, jax.Array] | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the logits and, by layer, its outputs.

    With `zeros`, these are added to the outputs, and the result has each layer's inputs as rows f[R, I] instead. To
    differentiate with respect to the zeros is to differentiate with respect to the outputs.
    """
    recorded: dict[str, jax.Array] = {}
    trace = tracers.current_trace()

    def intercept(
        call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        module: Any = context.module
        if context.method_name != "__call__" or type(module) not in (nn.Dense, nn.Conv):
            return call(*args, **kwargs)
        (x,) = (*args, *kwargs.values())
        if isinstance(module, nn.Conv) and not _is_supported_conv(module, x):
            return call(x)
        name = "/".join(module.path)
        if name in recorded:
            raise ValueError(
                f"kfac cannot distinguish the uses of the layer {name!r}, which is called twice in one pass"
            )
        if tracers.current_trace() != trace:  # values recorded here would not be available outside
            raise ValueError(
                f"kfac cannot record the layer {name!r}, which the model calls inside a transformation (nn.remat, "
                "nn.scan, jax.jit or similar): call it outside of one, or use another optimizer"
            )
        out = call(x)
        recorded[name] = out if zeros is None else _input_rows(module, x)
        return out if zeros is None else out + zeros[name]

    with nn.intercept_methods(intercept):
        return output_fn(params), recorded


def _is_supported_conv(module: nn.Conv, x: jax.Array) -> bool:
    """Return whether the module is a convolution of images f[N, H, W, C] in one group with zero padding."""
    padding = module.padding
    zeros = not isinstance(padding, str) or padding.upper() in ("SAME", "SAME_LOWER", "VALID")
    return x.ndim == 4 and len(_size(module)) == 2 and module.feature_group_count == 1 and zeros


def _size(module: nn.Conv) -> tuple[int, ...]:
    size = module.kernel_size
    return (size,) if isinstance(size, int) else tuple(size)


def _input_rows(module: nn.Dense | nn.Conv, x: jax.Array) -> jax.Array:
    """Return a layer's inputs as rows f[R, I] for examples and positions, with a 1 at the end if it has a bias."""
    if isinstance(module, nn.Conv):
        x = _patches(module, x)
    x = x.reshape(-1, x.shape[-1])
    return jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=-1) if module.use_bias else x


def _patches(module: nn.Conv, x: jax.Array) -> jax.Array:
    """Return the patch of each output, f[N, H', W', h * w * C], flattened in the order of an HWIO kernel."""
    size = _size(module)
    patches = jax.lax.conv_general_dilated_patches(
        x,
        size,
        _pair(module.strides),
        canonicalize_padding(module.padding, 2),
        lhs_dilation=_pair(module.input_dilation),
        rhs_dilation=_pair(module.kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )
    n, h, w, _ = patches.shape
    by_channel = patches.reshape(n, h, w, x.shape[-1], *size)  # jax flattens channels first
    return by_channel.transpose(0, 1, 2, 4, 5, 3).reshape(n, h, w, -1)


def _pair(value: Any) -> tuple[int, int]:
    if value is None:
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _output_factors(
    logits: jax.Array, backward: Any, key: jax.Array, fisher: Fisher, output_loss: Any
) -> dict[str, jax.Array]:
    """Return E[g g'] by layer, over examples, positions and the labels that `fisher` selects."""
    probabilities = jax.nn.softmax(logits)
    classes = logits.shape[-1]

    def moments(cotangent: jax.Array) -> dict[str, jax.Array]:
        (gradients,) = backward(cotangent)
        return {name: _second_moment(g, g.size // g.shape[-1]) for name, g in gradients.items()}

    if fisher == "sampled":
        labels = jax.random.categorical(key, logits)
        return moments(probabilities - jax.nn.one_hot(labels, classes, dtype=logits.dtype))
    if fisher == "empirical":
        if output_loss is None:
            raise ValueError(
                'kfac with fisher="empirical" needs the loss: call update(..., '
                "objective=BatchObjective(output_loss=logits -> loss))"
            )
        return moments(jax.grad(output_loss)(logits) * logits.shape[0])

    def class_moments(c: jax.Array) -> dict[str, jax.Array]:
        one_hot = jax.nn.one_hot(c, classes, dtype=logits.dtype)[None]
        weight = jnp.sqrt(jax.lax.dynamic_slice_in_dim(probabilities, c, 1, axis=-1))
        return moments(weight * (probabilities - one_hot))

    by_class = jax.lax.map(class_moments, jnp.arange(classes, dtype=jnp.int32))
    return jax.tree.map(lambda x: x.sum(axis=0), by_class)


def _second_moment(rows: jax.Array, count: int) -> jax.Array:
    """Return the sum of x x' over the rows f[..., D], divided by `count`: f[D, D]."""
    rows = rows.reshape(-1, rows.shape[-1]).astype(widest(rows))
    return jnp.matmul(rows.T, rows, precision="highest") / count
