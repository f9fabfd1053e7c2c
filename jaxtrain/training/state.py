"""The training state, its initialization, and functions of its arrays."""

import hashlib
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxtrain.optim.param_rules import path_name
from jaxtrain.random import INIT, stream_key

_FEW_OPTIMIZATIONS = {"xla_backend_optimization_level": 1}


class TrainState(flax.struct.PyTreeNode):
    """Everything that a training step changes. State and config together determine the rest of a run.

    Example:
      >>> import jaxtrain
      >>> model = jaxtrain.models.linear(num_classes=4)
      >>> state = jaxtrain.init_state(model, jaxtrain.optim.sgd(0.1), image_shape=(2, 2, 1))
      >>> int(state.step), sorted(state.params), state.variables
      (0, ['logits'], {})

    Attributes:
      step: int32[], the number of updates so far; data order, schedules and random streams depend on it.
      params: the trained parameters.
      variables: the model's other collections, such as running statistics.
      opt_state: the state of the optimizer.
    """

    step: jax.Array
    params: Any
    variables: Any
    opt_state: Any


def state_initializer(
    model: nn.Module, tx: optax.GradientTransformation, image_shape: tuple[int, int, int], seed: int
) -> Callable[[], TrainState]:
    """Return a pure function without arguments that makes the initial state, for `jax.jit` or `jax.eval_shape`."""

    def init() -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        variables = dict(model.init(stream_key(seed, INIT, 0), images, train=False))
        params = variables.pop("params")
        return TrainState(step=jnp.int32(0), params=params, variables=variables, opt_state=tx.init(params))

    return init


def init_state(
    model: nn.Module, tx: optax.GradientTransformation, image_shape: tuple[int, int, int], seed: int = 0
) -> TrainState:
    """Make the state before the first step, in one compiled function.

    Example:
      >>> import jax, jaxtrain
      >>> model = jaxtrain.models.linear(num_classes=4)
      >>> state = jaxtrain.init_state(model, jaxtrain.optim.sgd(0.1), image_shape=(2, 2, 1), seed=0)
      >>> jax.tree.map(lambda x: x.shape, state.params)
      {'logits': {'bias': (4,), 'kernel': (4, 4)}}

    Args:
      model: the Linen module, `(images, *, train) -> logits`.
      tx: the optimizer.
      image_shape: height, width and channels of an image.
      seed: the seed of the initial parameters.
    """
    state: TrainState = jit_for_one_call(state_initializer(model, tx, image_shape, seed))()
    return state


def jit_for_one_call(function: Callable[..., Any], out_shardings: Any = None) -> Any:
    """Compile with `jax.jit` a function that a run calls once, with few LLVM optimizations and the same results.

    For ResNet-20 on a CPU this takes 3 s instead of 11 s. A TPU's compiler has no such option.
    """
    options = None if jax.default_backend() == "tpu" else _FEW_OPTIMIZATIONS
    return jax.jit(function, out_shardings=out_shardings, compiler_options=options)


def all_finite(tree: Any) -> jax.Array:
    """Return bool[], whether all floating-point and complex leaves are free of NaN and infinity."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all() if leaves else jnp.bool_(True)


def params_sha256(params: Any) -> str:
    """Return the SHA-256 of parameters: of path, dtype, shape and bytes of each leaf, sorted by path.

    Equal digests mean bitwise equal parameters, independent of the devices that hold them.
    """
    digest = hashlib.sha256()
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name in sorted(leaves):
        array = np.asarray(leaves[name])
        digest.update(f"{name}:{array.dtype.name}:{array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
