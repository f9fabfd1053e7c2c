"""A convolution primitive that chooses its implementation at lowering and has the differentiation rules of jax's own.

Every rule is jax's: its result is traced, and the convolutions in it are bound to this primitive again. Derivatives of
all orders and modes, and batches of them, therefore work, and their convolutions are fast too. The choice is made at
lowering rather than when a model is traced, because only then platform and devices are known.

The primitive has the name and parameters of jax's, because other code finds convolutions in jaxprs by these.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from jaxtrain.xla_cpu.convolutions import native
from jaxtrain.xla_cpu.convolutions.kernel_selection import choose_kernel

Array = jax.Array
convolution_p = core.Primitive(lax.conv_general_dilated_p.name)


def conv_general_dilated(lhs: Array, rhs: Array, *args: Any, **kwargs: Any) -> Array:
    """Compute `jax.lax.conv_general_dilated(lhs, rhs, *args, **kwargs)`, with the same shape, dtype and derivatives.

    On one CPU device, native kernels compute the convolution and its gradients if they are faster. Their values differ
    from XLA's by rounding. Use it as `nn.Conv(conv_general_dilated=convolution)`.
    """
    return _rebind(lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, *args, **kwargs), lhs, rhs)


def _rebind(function: Callable[..., Array], *arrays: Array) -> Array:
    """Return `function(*arrays)` with the convolutions in it bound to this primitive."""
    closed = jax.make_jaxpr(function)(*arrays)
    values: dict[Any, Any] = dict(zip(closed.jaxpr.invars, arrays, strict=True))
    values.update(zip(closed.jaxpr.constvars, closed.consts, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in closed.jaxpr.eqns:
        primitive = convolution_p if eqn.primitive is lax.conv_general_dilated_p else eqn.primitive
        results = primitive.bind(*map(read, eqn.invars), **eqn.params)
        values.update(zip(eqn.outvars, results if primitive.multiple_results else [results], strict=True))
    (result,) = map(read, closed.jaxpr.outvars)
    return result


def _bind_jax(lhs: Array, rhs: Array, **params: Any) -> Array:
    return lax.conv_general_dilated_p.bind(lhs, rhs, **params)


@functools.cache
def _jit(**params: Any) -> Callable[[Array, Array], Array]:
    return jax.jit(functools.partial(convolution_p.bind, **params))


def _impl(lhs: Array, rhs: Array, **params: Any) -> Array:
    return _jit(**params)(lhs, rhs)


def _abstract(lhs: Any, rhs: Any, **params: Any) -> Any:
    aval, _ = lax.conv_general_dilated_p.abstract_eval(lhs, rhs, **params)
    return aval


def _transpose_lhs(cotangent: Array, lhs: Any, rhs: Array, **params: Any) -> Array:
    def transpose(cotangent: Array, rhs: Array) -> Array:
        (result,) = jax.linear_transpose(lambda lhs: _bind_jax(lhs, rhs, **params), _shape(lhs))(cotangent)
        return result

    return _rebind(transpose, cotangent, rhs)


def _transpose_rhs(cotangent: Array, lhs: Array, rhs: Any, **params: Any) -> Array:
    def transpose(cotangent: Array, lhs: Array) -> Array:
        (result,) = jax.linear_transpose(lambda rhs: _bind_jax(lhs, rhs, **params), _shape(rhs))(cotangent)
        return result

    return _rebind(transpose, cotangent, lhs)


def _shape(undefined: Any) -> Any:
    """Return shape, dtype and sharding of an operand that the rule has no value for."""
    return jax.ShapeDtypeStruct(undefined.aval.shape, undefined.aval.dtype, sharding=undefined.aval.sharding)


def _batch(operands: Any, dims: Any, **params: Any) -> tuple[Array, int]:
    mapped = jax.vmap(functools.partial(_bind_jax, **params), in_axes=tuple(dims))
    return _rebind(mapped, *operands), 0


def _lower_on_cpu(ctx: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    """Lower to a native kernel if one is chosen, on one device, in a program that is not exported."""
    module = ctx.module_context
    is_single = getattr(module.axis_context, "num_devices", 0) == 1 and not module.lowering_parameters.for_export
    call = choose_kernel(*ctx.avals_in, *ctx.avals_out, **params) if is_single else None
    library = native.load_kernels() if call is not None else None
    if call is None or library is None:
        return _lower(ctx, lhs, rhs, **params)
    lower = jax.ffi.ffi_lowering(library.targets[call.kernel])
    return lower(ctx, lhs, rhs, **call.attributes)


_lower = mlir.lower_fun(_bind_jax, multiple_results=False)
convolution_p.def_impl(_impl)
convolution_p.def_abstract_eval(_abstract)
ad.defbilinear(convolution_p, _transpose_lhs, _transpose_rhs)
batching.primitive_batchers[convolution_p] = _batch
mlir.register_lowering(convolution_p, _lower)
mlir.register_lowering(convolution_p, _lower_on_cpu, platform="cpu")
