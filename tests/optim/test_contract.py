"""The contract of every optimizer in the registry."""

import functools
import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtrain.optim import OPTIMIZERS
from jaxtrain.optim.batch_objective import BatchObjective
from jaxtrain.optim.param_rules import with_rules
from jaxtrain.run.checkpoints import Checkpointer, Progress, restore
from jaxtrain.training.state import TrainState
from tests.conftest import slow

NAMES = OPTIMIZERS.names()
WRAPPERS = [n for n in NAMES if "inner" in OPTIMIZERS[n].parameters()]
WITH_RATE = [n for n in NAMES if "learning_rate" in OPTIMIZERS[n].parameters() and n not in WRAPPERS]
LONG_TO_COMPILE = ("lbfgs", "bfgs", "nonlinear_cg", "hessian_free", "newton")
"""Optimizers with line searches or solvers; a test is `slow` for them where their own files cover it too."""


def slow_where_long(names: list[str]) -> list[Any]:
    return [slow(n) if n in LONG_TO_COMPILE else n for n in names]


def create(name: str, rate: Any = 0.1, **options: Any) -> optax.GradientTransformationExtraArgs:
    """Create the optimizer with its defaults and required arguments."""
    parameters = OPTIMIZERS[name].parameters()
    if "inner" in parameters:
        options["inner"] = OPTIMIZERS.create("sgd", learning_rate=rate)
    if "learning_rate" in parameters:
        options["learning_rate"] = rate
    if "seed" in parameters:
        options["seed"] = 0
    return OPTIMIZERS.create(name, **options)


def residuals(params: Any) -> jax.Array:
    """Return f[1, N], every element of the parameters that are present; a mask removes some."""
    leaves = [x.astype(jnp.result_type(float)).reshape(1, -1) for x in jax.tree.leaves(params)]
    return jnp.concatenate(leaves, axis=1)


def half_squares(outputs: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(outputs)) / 2


def quadratic(params: Any) -> jax.Array:
    return half_squares(residuals(params))


def rosenbrock(params: Any) -> jax.Array:
    """As outputs whose half squares are the function: (10 sqrt(2) (y - x^2), sqrt(2) (1 - x))."""
    x, y = params["x"], params["y"]
    return jnp.stack([10 * jnp.sqrt(2.0) * (y - x * x), jnp.sqrt(2.0) * (1 - x)])[None]


def update(tx: Any, params: Any, state: Any, outputs: Any = residuals, **extra: Any) -> tuple[Any, Any]:
    """Return an update made with every extra argument that the training step gives."""

    def objective(p: Any) -> jax.Array:
        return half_squares(outputs(p))

    value, grads = jax.value_and_grad(objective)(params)
    updates, state = tx.update(
        grads,
        state,
        params,
        value=value,
        grad=grads,
        value_fn=objective,
        objective=BatchObjective(objective, outputs, half_squares, jax.vmap(objective)),
        **extra,
    )
    return updates, state


def step(tx: Any, params: Any, state: Any, outputs: Any = residuals) -> tuple[Any, Any]:
    updates, state = update(tx, params, state, outputs)
    return optax.apply_updates(params, updates), state


def run(tx: Any, params: Any, steps: int, outputs: Any = residuals) -> tuple[Any, Any]:
    def body(carry: Any, _: None) -> Any:
        return step(tx, *carry, outputs), None

    return jax.lax.scan(body, (params, tx.init(params)), None, length=steps)[0]


def mixed() -> Any:
    return {"a": {"kernel": jnp.ones((2, 3))}, "b": (jnp.ones(4, jnp.bfloat16), jnp.ones(()))}


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x), jnp.asarray(x).aval.weak_type), tree)


def raw(tree: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@functools.cache
def compiled(name: str) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    """Return the optimizer and its compiled update, which must accept unknown extra arguments."""
    tx = create(name)
    return tx, jax.jit(lambda p, s: update(tx, p, s, nobody_knows_this=1))


def advance(name: str, params: Any, state: Any) -> tuple[Any, Any]:
    updates, state = compiled(name)[1](params, state)
    return optax.apply_updates(params, updates), state


@pytest.mark.slow_cases("bfgs", "hessian_free", "lbfgs", "newton", "nonlinear_cg", "soap")
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_keeps_shapes_dtypes_and_structure_inside_jit(name: str):
    tx, compiled_update = compiled(name)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    assert next(iter(inspect.signature(tx.update).parameters)) == "updates"
    params, state = mixed(), jax.jit(tx.init)(mixed())
    # a type that is weak in every step is stable, and is lost in a checkpoint
    assert not any(jnp.asarray(x).aval.weak_type for x in jax.tree.leaves((state, tx.init(mixed()))))
    for _ in range(3):
        updates, after = compiled_update(params, state)
        assert kinds(updates) == kinds(params)
        assert kinds(after) == kinds(state)
        params, state = optax.apply_updates(params, updates), after
    assert compiled_update._cache_size() == 1
    assert raw(params) != raw(mixed())
    assert all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(params))


@pytest.mark.quick_cases("adam", "lbfgs", "sgd")
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_keeps_float64_parameters_and_state_in_float64(name: str):
    with jax.enable_x64(True):
        tx = create(name)
        params = {"kernel": jnp.ones((2, 2), jnp.float64), "bias": jnp.ones(2, jnp.float64)}
        state = tx.init(params)
        new, after = jax.jit(functools.partial(step, tx))(params, state)
    assert kinds(new) == kinds(params)
    assert kinds(after) == kinds(state)
    assert not any(x.dtype == jnp.float32 and x.ndim for x in jax.tree.leaves(after))


@pytest.mark.quick_cases("adam", "muon")
@pytest.mark.parametrize("name", slow_where_long(NAMES))
def test_optimizer_under_vmap_equals_separate_runs(name: str):
    tx = create(name)
    starts = {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)), jnp.float32)}
    together = jax.jit(jax.vmap(lambda p: run(tx, p, 2)[0]))(starts)
    alone = jax.jit(lambda p: run(tx, p, 2)[0])
    for i in range(3):
        own = alone(jax.tree.map(lambda x, i=i: x[i], starts))
        np.testing.assert_allclose(together["kernel"][i], own["kernel"], rtol=1e-4, atol=1e-5)


ONE_OF_TWO = {"a": {"kernel": True}, "b": (True, False)}


@pytest.mark.quick_cases("adam", "lookahead", "muon")
@pytest.mark.parametrize("name", slow_where_long(NAMES))
def test_optimizer_leaves_masked_and_frozen_parameters_bitwise_unchanged(name: str):
    """Under optax.masked and optax.partition the objective uses the visible leaves; under the rules, all of them."""
    params = mixed()
    wrapped = {
        "masked": optax.masked(create(name), ONE_OF_TWO),
        "partition": optax.partition(
            {"a": create(name), "b": optax.set_to_zero()}, jax.tree.map(lambda seen: "a" if seen else "b", ONE_OF_TWO)
        ),
        "frozen": with_rules(create(name), ((".*", 1.0),), (("^b/1$", 1.0), (".*", 0.0))),
    }

    def needs_all(p: Any) -> jax.Array:
        return residuals([p["a"]["kernel"], p["b"][0], p["b"][1]])

    def all_of_them(p: Any) -> dict[str, Any]:
        """Return the second updates: the center of EASGD follows its workers one step later."""

        def second(tx: Any, outputs: Any) -> Any:
            def body(state: Any, _: None) -> Any:
                updates, state = update(tx, p, state, outputs)
                return state, updates

            return jax.tree.map(lambda x: x[1], jax.lax.scan(body, tx.init(p), None, length=2)[1])

        return {kind: second(tx, needs_all if kind == "frozen" else residuals) for kind, tx in wrapped.items()}

    for kind, updates in jax.jit(all_of_them)(params).items():
        expected = params["b"][1] if kind == "masked" else jnp.zeros(())  # optax hands the gradient on, which is x
        assert raw(updates["b"][1]) == raw(expected), kind
        assert np.abs(np.asarray(updates["a"]["kernel"])).min() > 0, kind


def restored(directory: Path, tree: Any) -> Any:
    """Return `tree` after saving and restoring a checkpoint."""
    state = TrainState(step=jnp.int32(2), params=mixed(), variables={}, opt_state=tree)
    saver = Checkpointer(directory, 1)
    saver.save(state, 2, Progress())
    saver.wait()
    saver.close()
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)
    return restore(directory, 2, abstract)[0].opt_state


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Return parameters and state of every optimizer after two steps, before and after a checkpoint."""
    begun = {name: jax.jit(compiled(name)[0].init)(mixed()) for name in NAMES}
    before = {name: advance(name, *advance(name, mixed(), state)) for name, state in begun.items()}
    return before, restored(tmp_path_factory.mktemp("zoo"), before)


@pytest.mark.quick_cases("adam", "kfac", "lbfgs", "prodigy", "schedule_free")
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_continues_bitwise_after_a_checkpoint(saved: tuple[Any, Any], name: str):
    before, after = saved[0][name], saved[1][name]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert raw(before) == raw(after)
    assert raw(advance(name, *before)) == raw(advance(name, *after))


@pytest.mark.quick_cases("adam", "kfac")
@pytest.mark.parametrize("name", slow_where_long(NAMES))
def test_optimizer_keeps_the_sharding_of_parameters_and_state(name: str):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    cut, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    params = {"kernel": jax.device_put(jnp.ones((8, 4)), cut), "bias": jax.device_put(jnp.ones(4), whole)}
    tx = create(name)

    def begin_and_step(p: Any) -> Any:
        return step(tx, p, tx.init(p))

    new, state = jax.block_until_ready(jax.jit(begin_and_step)(params))
    for key in params:
        assert new[key].sharding.is_equivalent_to(params[key].sharding, params[key].ndim), key
    like_kernel = [x for x in jax.tree.leaves(state) if x.shape == (8, 4)]
    if name == "soap":  # whose moments are products of whole matrices
        return
    assert all(x.sharding.is_equivalent_to(cut, 2) for x in like_kernel)


@pytest.mark.slow
def test_kfac_factors_survive_a_checkpoint_and_sharding_is_kept(tmp_path: Path):
    """The other tests use a tree without a model, for which K-FAC has no factors."""
    net, inputs = nn.Dense(4), jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)
    params = net.init(jax.random.key(0), inputs)["params"]
    tx = OPTIMIZERS.create("kfac", learning_rate=0.1, seed=0, inverse_every=3)  # the inverses of step 0 are in use

    def outputs(p: Any) -> jax.Array:
        return net.apply({"params": p}, inputs)

    compiled = jax.jit(lambda p, s: step(tx, p, s, outputs))
    before = compiled(*compiled(params, jax.jit(tx.init)(params)))
    shapes = {x.shape for x in jax.tree.leaves(before[1])}
    assert {(9, 9), (4, 4)} <= shapes  # of the inputs with a 1, and of the outputs
    after = restored(tmp_path, before)
    assert raw(before) == raw(after)
    for _ in range(2):  # one with the kept inverses, one with new ones
        before, after = compiled(*before), compiled(*after)
        assert raw(before) == raw(after)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    cut = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = jax.device_put(params, {"kernel": cut, "bias": everywhere})
    whole, _ = jax.jit(lambda p: step(tx, p, tx.init(p), outputs))(params)
    parts, state = jax.jit(lambda p: step(tx, p, tx.init(p), outputs))(spread)
    kernels = [parts["kernel"], *(x for x in jax.tree.leaves(state) if x.shape == (8, 4))]
    assert len(kernels) > 1  # the velocity
    assert all(x.sharding.is_equivalent_to(cut, 2) for x in kernels)
    np.testing.assert_allclose(parts["kernel"], whole["kernel"], rtol=1e-4, atol=1e-5)


RATES = {"adadelta": 10.0, "lars": 1.5, "prodigy": 1.0, "muon": 0.05, "kfac": 0.1}
_SMALL = ("sgd", "sam", "lookahead", "schedule_free", "powersign", "addsign", "easgd")
VALLEY = dict.fromkeys(_SMALL, 5e-4) | {
    "momentum": 2e-4,
    "nesterov": 2e-4,
    "adadelta": 10.0,
    "lars": 2e-4,
    "prodigy": 1.0,
    "kfac": 0.01,
    "lion": 0.01,
    "lamb": 0.01,
}


@pytest.mark.quick_cases("adam", "adamw", "lion", "muon", "nesterov", "sgd", "schedule_free")
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_descends_a_bowl_and_a_valley(name: str):
    start = {"kernel": jnp.full((2, 2), 1.5), "bias": jnp.ones(2)}
    end, _ = jax.jit(lambda p: run(create(name, RATES.get(name, 0.1)), p, 60))(start)
    assert quadratic(end) < quadratic(start) / 4
    valley = {"x": jnp.float32(-1.2), "y": jnp.float32(1.0)}
    end, _ = jax.jit(lambda p: run(create(name, VALLEY.get(name, 0.02)), p, 200, rosenbrock))(valley)
    assert half_squares(rosenbrock(end)) < half_squares(rosenbrock(valley)) / 2  # of 24.2, most is in the first steps


@pytest.mark.quick_cases("adam", "muon")
@pytest.mark.parametrize("name", slow_where_long(NAMES))
def test_optimizer_works_in_an_optax_chain(name: str):
    params = mixed()
    alone, halved = create(name), optax.chain(create(name), optax.scale(0.5))
    with jax.numpy_dtype_promotion("standard"):  # optax's norm adds up leaves of several dtypes
        clipped = optax.chain(optax.clip_by_global_norm(1e-30), create(name))

        def both(p: Any) -> Any:
            update(clipped, p, clipped.init(p))
            return update(alone, p, alone.init(p))[0], update(halved, p, halved.init(p))[0]

        plain, half = jax.jit(both)(params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(0.5 * a, b), plain, half)


def injected(name: str, static: bool) -> tuple[Any, Any]:
    parameters = OPTIMIZERS[name].parameters()
    others = tuple(p for p in parameters if p != "learning_rate")
    given = {"seed": 0} if "seed" in parameters else {}
    tx = optax.inject_hyperparams(OPTIMIZERS[name].load(), static_args=others if static else tuple(given))(
        learning_rate=0.1, **given
    )
    params = mixed()
    with jax.numpy_dtype_promotion("standard"):  # optax's own conversions, whatever is inside
        compiled = jax.jit(lambda p, s: update(tx, p, s))
        state = tx.init(params)
        _, state = compiled(params, state)
        before, state = compiled(params, state)  # the center of EASGD follows its workers a step behind
        state.hyperparams["learning_rate"] = jnp.zeros_like(state.hyperparams["learning_rate"])
        after, _ = compiled(params, tx.init(params)._replace(hyperparams=state.hyperparams))
    return before, after


@pytest.mark.quick_cases("adam-True", "nesterov-True")
@pytest.mark.parametrize("static", [True, slow(False)])
@pytest.mark.parametrize("name", WITH_RATE)
def test_learning_rate_can_be_injected(name: str, static: bool):
    """`optax.inject_hyperparams(factory)(learning_rate=...)`, as optax's documents have it, takes the defaults too.

    A rate of 0.1 moves from 1; a rate that was set to 0 in the state stands still.
    """
    before, after = injected(name, static)
    kernel = np.asarray(before["a"]["kernel"], np.float32)
    assert np.all(kernel < 0) or name == "muon"  # muon orthogonalizes a constant gradient
    assert np.any(kernel)
    assert not any(np.any(np.asarray(x, np.float32)) for x in jax.tree.leaves(after))


@pytest.mark.parametrize("name", slow_where_long([n for n in NAMES if n not in WITH_RATE]))
def test_inject_hyperparams_accepts_optimizers_without_a_learning_rate(name: str):
    parameters = OPTIMIZERS[name].parameters()
    options: dict[str, Any] = {}
    if "inner" in parameters:
        options["inner"] = OPTIMIZERS.create("sgd", learning_rate=0.1)
    if "learning_rate" in parameters:
        options["learning_rate"] = 0.1
    tx = optax.inject_hyperparams(OPTIMIZERS[name].load(), static_args=tuple(parameters))(**options)
    params = mixed()
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = jax.jit(lambda p: update(tx, p, tx.init(p)))(params)
    assert np.any(np.asarray(updates["a"]["kernel"]))
