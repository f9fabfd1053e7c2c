"""K-FAC: natural gradient with the Fisher matrix of each layer approximated by a Kronecker product."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt, Seed
from jaxtrain.optim import trees
from jaxtrain.optim.batch_objective import get_objective
from jaxtrain.optim.chain import cast_like
from jaxtrain.optim.kfac_factors import Factors, Fisher, kronecker_factors
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay, path_name
from jaxtrain.optim.schedules import as_schedule

LayerFactors = dict[str, Factors]


class KfacState(NamedTuple):
    """State of `kfac`.

    Attributes:
      factors: the running means of the factors, by layer.
      inverses: the inverses of the damped factors at their latest refresh, by layer.
      velocity: the velocity, like the parameters, in float32 at least.
      step: int32[], the number of updates made.
    """

    factors: LayerFactors
    inverses: LayerFactors
    velocity: Any
    step: jax.Array


def kfac(
    learning_rate: LearningRate,
    *,
    momentum: Fraction = 0.9,
    damping: PositiveFloat = 1e-2,
    factor_decay: Fraction = 0.95,
    factors_every: PositiveInt = 1,
    inverse_every: PositiveInt = 10,
    fisher: Fisher = "sampled",
    kl_clip: PositiveFloat | None = 1e-3,
    weight_decay: WeightDecay = 0.0,
    seed: Seed,
) -> optax.GradientTransformationExtraArgs:
    """Build K-FAC (Martens & Grosse 2015, arXiv:1503.05671), with KFC for convolutions (Grosse & Martens 2016).

    For each layer with the gradient W (the bias as the last row) and running means A and G of its factors:

        N = (A + pi sqrt(damping) I)^-1 W (G + sqrt(damping) / pi I)^-1
        v = momentum * v + min(1, sqrt(kl_clip / (learning_rate^2 N'W))) * N
        x = x - learning_rate * v

    pi^2 is the ratio of the factors' mean eigenvalues (section 6.3, factored Tikhonov damping). N'W is summed over all
    parameters. `kl_clip` bounds the change of the model's distribution (Ba et al. 2017). The decay of the means is
    min(1 - 1/k, factor_decay) at the k-th batch, so the first means are those of the first batch. Parameters of no
    layer that `kronecker_factors` supports (a normalization's scale, a grouped convolution) keep their gradient: N = W.

    `update` needs the extra argument `objective` (`BatchObjective`). Its `outputs` must apply a Linen model to the
    batch; the paths of the parameters are the paths of the model's layers. "empirical" also needs its `output_loss`.

    KFC: arXiv:1602.01407.

    Args:
      learning_rate: a number or a schedule `step -> number`.
      momentum: the decay of the velocity.
      damping: lambda of the paper.
      factor_decay: the decay of the running means.
      factors_every: the number of steps between two updates of the factors.
      inverse_every: the number of steps between two refreshes of the inverses.
      fisher: the labels for the gradients in the factors: "sampled", "exact" or "empirical", see `kronecker_factors`.
      kl_clip: the bound on the squared length of a step in the metric of the Fisher matrix; None for no bound.
      weight_decay: decay added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
      seed: the seed of the sampled labels; a config takes that of the run.

    Example:
      Softmax regression; the losses of three steps:

      >>> import jax, jax.numpy as jnp, jaxtrain, optax
      >>> from flax import linen as nn
      >>> from jaxtrain.optim.batch_objective import BatchObjective
      >>> images, labels = jnp.array([[1.0, 0.0], [0.0, 3.0]]), jnp.array([0, 1])
      >>> outputs = lambda params: nn.Dense(2).apply({"params": params}, images)
      >>> def objective(params):
      ...     return optax.softmax_cross_entropy_with_integer_labels(outputs(params), labels).mean()
      >>> tx = jaxtrain.optim.kfac(0.1, fisher="exact", kl_clip=None, seed=0)
      >>> params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
      >>> state = tx.init(params)
      >>> @jax.jit
      ... def step(params, state):
      ...     loss, grads = jax.value_and_grad(objective)(params)
      ...     updates, state = tx.update(grads, state, params, objective=BatchObjective(outputs=outputs))
      ...     return optax.apply_updates(params, updates), state, loss
      >>> for _ in range(3):
      ...     params, state, loss = step(params, state)
      ...     print(round(float(loss), 3))
      0.693
      0.618
      0.497
    """
    schedule, decay = as_schedule(learning_rate), add_weight_decay(weight_decay)

    def init(params: optax.Params) -> KfacState:
        layers = find_layers(params)
        empty = {name: _empty_factors(layer) for name, layer in layers.items()}
        velocity = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=trees.widest(p)), params)
        return KfacState(empty, jax.tree.map(jnp.copy, empty), velocity, jnp.int32(0))

    def update(
        updates: optax.Updates, state: KfacState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, KfacState]:
        outputs, output_loss = get_objective(extra).outputs, get_objective(extra).output_loss
        if params is None or outputs is None:
            raise ValueError(
                "kfac needs the model's outputs: call update(grads, state, params, "
                "objective=BatchObjective(outputs=params -> logits)) with a Linen model applied to the batch"
            )
        stream = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"kfac"))
        key = jax.random.fold_in(stream, state.step)

        def estimate_factors() -> LayerFactors:
            found = kronecker_factors(outputs, params, key, fisher=fisher, output_loss=output_loss)
            return _update_means(state.factors, found, state.step // factors_every, factor_decay)

        factors = _compute_if_due(state.step % factors_every == 0, factors_every, estimate_factors, state.factors)
        inverses = _compute_if_due(
            state.step % inverse_every == 0, inverse_every, lambda: _invert_factors(factors, damping), state.inverses
        )
        updates, _ = decay.update(updates, optax.EmptyState(), params)
        gradient = jax.tree.map(lambda u: u.astype(trees.widest(u)), updates)
        natural, rate = _precondition(gradient, inverses), jnp.asarray(schedule(state.step))
        if kl_clip is not None:
            natural = _clip_kl(natural, gradient, rate, kl_clip)
        velocity = jax.tree.map(lambda v, u: cast_like(momentum, v) * v + u, state.velocity, natural)
        steps = jax.tree.map(lambda v, u: (-rate.astype(v.dtype) * v).astype(u.dtype), velocity, updates)
        return steps, KfacState(factors, inverses, velocity, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def find_layers(tree: Any, path: tuple[str, ...] = ()) -> dict[str, Mapping[str, Any]]:
    """Return the parts of a parameter tree that look like a dense or convolutional layer, by path.

    Such a part is a mapping with a "kernel" of rank 2 or 4 that is not masked.
    """
    if not isinstance(tree, Mapping):
        return {}
    if getattr(tree.get("kernel"), "ndim", 0) in (2, 4):
        return {"/".join(path): tree}
    found: dict[str, Mapping[str, Any]] = {}
    for name, part in tree.items():
        found |= find_layers(part, (*path, str(name)))
    return found


def _has_bias(layer: Mapping[str, Any]) -> bool:
    return getattr(layer.get("bias"), "shape", None) == layer["kernel"].shape[-1:]  # a masked bias has no shape


def _empty_factors(layer: Mapping[str, Any]) -> Factors:
    kernel = layer["kernel"]
    wide = trees.widest(kernel)
    outputs = kernel.shape[-1]
    inputs = kernel.size // outputs + _has_bias(layer)
    return Factors(jnp.zeros((inputs, inputs), wide), jnp.zeros((outputs, outputs), wide))


def _compute_if_due(due: jax.Array, every: Any, make: Any, old: Any) -> Any:
    """Return the result of `make` if it is due, else `old`; without a branch if it is due at every step."""
    always = isinstance(every, int) and every == 1  # under optax.inject_hyperparams it is an array
    return make() if always else jax.lax.cond(due, make, lambda: old)


def _update_means(old: LayerFactors, found: Mapping[str, Factors], count: jax.Array, decay: float) -> LayerFactors:
    """Return the running means after one more estimate of the factors; a layer without one keeps its zeros."""

    def mean(before: jax.Array, now: jax.Array) -> jax.Array:
        now = now[: before.shape[0], : before.shape[1]].astype(before.dtype)  # a frozen bias has no row
        keep = jnp.minimum(1 - 1 / (count + 1).astype(before.dtype), cast_like(decay, before))
        return keep * before + (1 - keep) * now

    return {name: jax.tree.map(mean, f, found[name]) if name in found else f for name, f in old.items()}


def _invert_factors(factors: LayerFactors, damping: float) -> LayerFactors:
    """Return the inverses of the factors with their shares of the damping; zeros for a layer without factors.

    Under vmap the inverses are computed one at a time. On a CPU, jaxlib 0.10 computes the matrices of a batch on the
    thread pool that also runs the call itself. If there are as many such calls at once as threads, they wait for each
    other forever.
    """
    inverse = jax.custom_batching.sequential_vmap(_inverse)

    def invert_pair(f: Factors) -> Factors:
        a, g = (jnp.trace(m) / m.shape[0] for m in f)
        has_factors = (a > 0) & (g > 0)
        pi = jnp.sqrt(jnp.where(has_factors, a, 1) / jnp.where(has_factors, g, 1))
        root = jnp.sqrt(jnp.asarray(damping, pi.dtype))
        pair = (inverse(m, share) for m, share in zip(f, (pi * root, root / pi), strict=True))
        return Factors(*(jnp.where(has_factors, m, 0) for m in pair))

    return {name: invert_pair(f) for name, f in factors.items()}


def _inverse(matrix: jax.Array, damping: jax.Array) -> jax.Array:
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    factor = jax.scipy.linalg.cho_factor(matrix + damping * identity, lower=True)
    return jax.scipy.linalg.cho_solve(factor, identity)


def _precondition(gradient: Any, inverses: LayerFactors) -> Any:
    """Multiply each layer's part of the gradient by its inverses from both sides."""
    natural: dict[str, jax.Array] = {}
    for name, layer in find_layers(gradient).items():
        for part, value in _precondition_layer(layer, inverses[name]).items():
            natural[f"{name}/{part}" if name else part] = value
    return jax.tree_util.tree_map_with_path(lambda path, g: natural.get(path_name(path), g), gradient)


def _precondition_layer(layer: Mapping[str, Any], inverse: Factors) -> dict[str, jax.Array]:
    kernel, bias = layer["kernel"], layer["bias"] if _has_bias(layer) else None
    rows = kernel.reshape(-1, kernel.shape[-1]).astype(inverse.inputs.dtype)
    if bias is not None:
        rows = jnp.concatenate([rows, bias.astype(rows.dtype)[None]])
    natural = _multiply(_multiply(inverse.inputs, rows), inverse.outputs)
    rows = jnp.where(jnp.trace(inverse.inputs) > 0, natural, rows)  # zeros mean that the layer has no factors
    if bias is None:
        return {"kernel": rows.reshape(kernel.shape).astype(kernel.dtype)}
    return {"kernel": rows[:-1].reshape(kernel.shape).astype(kernel.dtype), "bias": rows[-1].astype(bias.dtype)}


def _multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _clip_kl(natural: Any, gradient: Any, rate: jax.Array, kl_clip: float) -> Any:
    """Return `natural` times min(1, sqrt(kl_clip / (rate^2 natural'gradient))).

    With u = F^-1 g and the damped F, u'g is u'Fu: about twice the divergence of the distributions before and after u.
    """
    product = trees.dot(natural, gradient)
    squared = jnp.square(rate.astype(product.dtype)) * product
    scale = jnp.minimum(
        1, jnp.sqrt(cast_like(kl_clip, product) / jnp.maximum(squared, 1e-30))
    )  # finite if the rate is 0
    return trees.scale(scale, natural)
