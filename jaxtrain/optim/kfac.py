"""K-FAC: the natural gradient, with the Fisher matrix of each layer as a Kronecker product."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxtrain.annotations import Fraction, LearningRate, PositiveFloat, PositiveInt, Seed
from jaxtrain.optim import trees
from jaxtrain.optim.batch_objective import objective_of
from jaxtrain.optim.chain import like
from jaxtrain.optim.kfac_factors import Factors, Fisher, kronecker_factors
from jaxtrain.optim.param_rules import WeightDecay, add_weight_decay, path_name
from jaxtrain.optim.schedules import as_schedule

Layers = dict[str, Factors]


class KfacState(NamedTuple):
    """State of `kfac`.

    Attributes:
      factors: by layer, running means of its factors.
      inverses: by layer, the inverses of the damped factors, as of their latest refresh.
      velocity: like the parameters, in float32 at least.
      step: int32[], updates made.
    """

    factors: Layers
    inverses: Layers
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
    """K-FAC (Martens & Grosse 2015) for dense layers, KFC (Grosse & Martens 2016) for convolutions.

    A layer's gradient W, its bias as the last row, becomes (A + pi sqrt(damping) I)^-1 W (G + sqrt(damping) / pi I)^-1,
    with A and G the running means of its factors and pi^2 the ratio of their mean eigenvalues (section 6.3, factored
    Tikhonov damping). The first means are those of the first batch: the decay is min(1 - 1/k, factor_decay). What
    belongs to no layer that `kronecker_factors` has factors for (a normalization's scale, a convolution in groups)
    keeps its gradient.
    The result is shortened so that learning_rate^2 * step'gradient is `kl_clip` at the most, which bounds the change of
    the model's distribution (Ba et al. 2017), and goes into a velocity v = momentum * v + step; x -= learning_rate * v.

    `update` needs the extra argument `objective` (`BatchObjective`) with `outputs`, a Linen model on the batch whose
    parameters have the paths of its layers, and for "empirical" with `output_loss`.

    Args:
      learning_rate: a number or a schedule.
      momentum: decay of the velocity.
      damping: lambda of the paper.
      factor_decay: of the running means.
      factors_every: steps between two looks at the factors.
      inverse_every: steps between two refreshes of the inverses.
      fisher: which labels the factors' gradients are of; see `kronecker_factors`.
      kl_clip: bound on the squared length of a step in the metric of the Fisher matrix; None for none.
      weight_decay: added to the gradient as `weight_decay * x`; a number, or rules `(regex, value)` by path.
      seed: of the labels that are drawn; a config takes that of the run.
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
        outputs, output_loss = objective_of(extra).outputs, objective_of(extra).output_loss
        if params is None or outputs is None:
            raise ValueError(
                "kfac needs the outputs of the model's layers: call update(grads, state, params, "
                "objective=BatchObjective(outputs=params -> logits)), a Linen model applied to the batch"
            )
        stream = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"kfac"))
        key = jax.random.fold_in(stream, state.step)

        def look() -> Layers:
            found = kronecker_factors(outputs, params, key, fisher=fisher, output_loss=output_loss)
            return _averaged(state.factors, found, state.step // factors_every, factor_decay)

        factors = _when(state.step % factors_every == 0, factors_every, look, state.factors)
        inverses = _when(
            state.step % inverse_every == 0, inverse_every, lambda: _inverted(factors, damping), state.inverses
        )
        updates, _ = decay.update(updates, optax.EmptyState(), params)
        gradient = jax.tree.map(lambda u: u.astype(trees.widest(u)), updates)
        natural, rate = _precondition(gradient, inverses), jnp.asarray(schedule(state.step))
        if kl_clip is not None:
            natural = _shortened(natural, gradient, rate, kl_clip)
        velocity = jax.tree.map(lambda v, u: like(momentum, v) * v + u, state.velocity, natural)
        steps = jax.tree.map(lambda v, u: (-rate.astype(v.dtype) * v).astype(u.dtype), velocity, updates)
        return steps, KfacState(factors, inverses, velocity, state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def find_layers(tree: Any, path: tuple[str, ...] = ()) -> dict[str, Mapping[str, Any]]:
    """The parts of a tree of parameters that look like a dense or convolutional layer, by path.

    That is a mapping with a "kernel" of rank 2 or 4 that is not masked.
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
    return getattr(layer.get("bias"), "shape", None) == layer["kernel"].shape[-1:]  # a masked one has none


def _empty_factors(layer: Mapping[str, Any]) -> Factors:
    kernel = layer["kernel"]
    wide = trees.widest(kernel)
    outputs = kernel.shape[-1]
    inputs = kernel.size // outputs + _has_bias(layer)
    return Factors(jnp.zeros((inputs, inputs), wide), jnp.zeros((outputs, outputs), wide))


def _when(due: jax.Array, every: Any, make: Any, old: Any) -> Any:
    """What `make` gives where it is due; without a branch where it always is."""
    always = isinstance(every, int) and every == 1  # an array under optax.inject_hyperparams
    return make() if always else jax.lax.cond(due, make, lambda: old)


def _averaged(old: Layers, found: Mapping[str, Factors], looks: jax.Array, decay: float) -> Layers:
    """Running means with one more look; a layer that was not seen keeps its zeros."""

    def mean(before: jax.Array, now: jax.Array) -> jax.Array:
        now = now[: before.shape[0], : before.shape[1]].astype(before.dtype)  # a bias that is frozen has no row
        keep = jnp.minimum(1 - 1 / (looks + 1).astype(before.dtype), like(decay, before))
        return keep * before + (1 - keep) * now

    return {name: jax.tree.map(mean, f, found[name]) if name in found else f for name, f in old.items()}


def _inverted(factors: Layers, damping: float) -> Layers:
    """The inverses of the factors, each with its share of the damping; zeros for a layer that was never seen.

    Under vmap they are made one at a time. On a CPU, jaxlib 0.10 gives the matrices of a batch to the threads that it
    is called on itself: as many such calls as there are threads, side by side, wait for each other for good.
    """
    inverse = jax.custom_batching.sequential_vmap(_inverse)

    def of(f: Factors) -> Factors:
        a, g = (jnp.trace(m) / m.shape[0] for m in f)
        seen = (a > 0) & (g > 0)
        pi = jnp.sqrt(jnp.where(seen, a, 1) / jnp.where(seen, g, 1))
        root = jnp.sqrt(jnp.asarray(damping, pi.dtype))
        pair = (inverse(m, share) for m, share in zip(f, (pi * root, root / pi), strict=True))
        return Factors(*(jnp.where(seen, m, 0) for m in pair))

    return {name: of(f) for name, f in factors.items()}


def _inverse(matrix: jax.Array, damping: jax.Array) -> jax.Array:
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    factor = jax.scipy.linalg.cho_factor(matrix + damping * identity, lower=True)
    return jax.scipy.linalg.cho_solve(factor, identity)


def _precondition(gradient: Any, inverses: Layers) -> Any:
    """The gradient with each layer's part multiplied by its inverses from both sides."""
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
    rows = jnp.where(jnp.trace(inverse.inputs) > 0, natural, rows)  # zeros are of a layer that was never seen
    if bias is None:
        return {"kernel": rows.reshape(kernel.shape).astype(kernel.dtype)}
    return {"kernel": rows[:-1].reshape(kernel.shape).astype(kernel.dtype), "bias": rows[-1].astype(bias.dtype)}


def _multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


def _shortened(natural: Any, gradient: Any, rate: jax.Array, kl_clip: float) -> Any:
    """`natural` times min(1, sqrt(kl_clip / (rate^2 natural'gradient))).

    With u = F^-1 g, F damped, u'g is u'Fu: about twice the divergence of the distributions before and after u.
    """
    product = trees.dot(natural, gradient)
    squared = jnp.square(rate.astype(product.dtype)) * product
    scale = jnp.minimum(1, jnp.sqrt(like(kl_clip, product) / jnp.maximum(squared, 1e-30)))  # a rate of 0 is no matter
    return trees.scaled(scale, natural)
