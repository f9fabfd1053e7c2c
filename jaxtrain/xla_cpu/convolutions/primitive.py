"""A convolution that decides how it is computed when it is lowered, and derives as jax's own does.

Every rule of it is jax's: what the rule makes is traced, and its convolutions are bound to this primitive again. So
derivatives of all orders and modes and batches of them are there, and their convolutions are fast as well. That it is
decided in the lowering, and not when a model is traced, is what lets platform and devices be known.

It bears the name and the parameters of jax's primitive, by which jaxprs are read.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from jaxtrain.xla_cpu.convolutions import native
from jaxtrain.xla_cpu.convolutions.tasks import task_of

Array = jax.Array
convolution_p = core.Primitive(lax.conv_general_dilated_p.name)


def convolution(lhs: Array, rhs: Array, *args: Any, **kwargs: Any) -> Array:
    """`jax.lax.conv_general_dilated(lhs, rhs, *args, **kwargs)`, of the same shape, dtype and derivatives.

    On one CPU device the convolution and its gradients are computed by native kernels where those are faster; their
    values differ from XLA's by rounding. Use it as `nn.Conv(conv_general_dilated=convolution)`.
    """
    return _rebound(lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, *args, **kwargs), lhs, rhs)


def _rebound(function: Callable[..., Array], *arrays: Array) -> Array:
    """`function(*arrays)`, with the convolutions in it bound to this primitive."""
    closed = jax.make_jaxpr(function)(*arrays)
    values: dict[Any, Any] = dict(zip(closed.jaxpr.invars, arrays, strict=True))
    values.update(zip(closed.jaxpr.constvars, closed.consts, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in closed.jaxpr.eqns:
        primitive = convolution_p if eqn.primitive is lax.conv_general_dilated_p else eqn.primitive
        results = primitive.bind(*map(value, eqn.invars), **eqn.params)
        values.update(zip(eqn.outvars, results if primitive.multiple_results else [results], strict=True))
    (result,) = map(value, closed.jaxpr.outvars)
    return result


def _plain(lhs: Array, rhs: Array, **params: Any) -> Array:
    return lax.conv_general_dilated_p.bind(lhs, rhs, **params)


@functools.cache
def _jitted(**params: Any) -> Callable[[Array, Array], Array]:
    return jax.jit(functools.partial(convolution_p.bind, **params))


def _impl(lhs: Array, rhs: Array, **params: Any) -> Array:
    return _jitted(**params)(lhs, rhs)


def _abstract(lhs: Any, rhs: Any, **params: Any) -> Any:
    aval, _ = lax.conv_general_dilated_p.abstract_eval(lhs, rhs, **params)
    return aval


def _transpose_lhs(cotangent: Array, lhs: Any, rhs: Array, **params: Any) -> Array:
    def transposed(cotangent: Array, rhs: Array) -> Array:
        (found,) = jax.linear_transpose(lambda lhs: _plain(lhs, rhs, **params), _shape(lhs))(cotangent)
        return found

    return _rebound(transposed, cotangent, rhs)


def _transpose_rhs(cotangent: Array, lhs: Array, rhs: Any, **params: Any) -> Array:
    def transposed(cotangent: Array, lhs: Array) -> Array:
        (found,) = jax.linear_transpose(lambda rhs: _plain(lhs, rhs, **params), _shape(rhs))(cotangent)
        return found

    return _rebound(transposed, cotangent, lhs)


def _shape(undefined: Any) -> Any:
    """What an operand is like that is only known by its kind."""
    return jax.ShapeDtypeStruct(undefined.aval.shape, undefined.aval.dtype, sharding=undefined.aval.sharding)


def _batch(operands: Any, dims: Any, **params: Any) -> tuple[Array, int]:
    mapped = jax.vmap(functools.partial(_plain, **params), in_axes=tuple(dims))
    return _rebound(mapped, *operands), 0


def _lower_on_cpu(ctx: Any, lhs: Any, rhs: Any, **params: Any) -> Any:
    """The native kernel where there is one for this convolution, on one device, in a program that stays here."""
    module = ctx.module_context
    alone = getattr(module.axis_context, "num_devices", 0) == 1 and not module.lowering_parameters.for_export
    task = task_of(*ctx.avals_in, *ctx.avals_out, **params) if alone else None
    library = native.library() if task is not None else None
    if task is None or library is None:
        return _lower(ctx, lhs, rhs, **params)
    call = jax.ffi.ffi_lowering(library.targets[task.kernel])
    return call(ctx, lhs, rhs, **task.attributes)


_lower = mlir.lower_fun(_plain, multiple_results=False)
convolution_p.def_impl(_impl)
convolution_p.def_abstract_eval(_abstract)
ad.defbilinear(convolution_p, _transpose_lhs, _transpose_rhs)
batching.primitive_batchers[convolution_p] = _batch
mlir.register_lowering(convolution_p, _lower)
mlir.register_lowering(convolution_p, _lower_on_cpu, platform="cpu")
