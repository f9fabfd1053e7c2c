"""Every first-order rule in float64 over 100 steps of two smooth problems that are not convex, to 1e-12.

Against loops in numpy, and against torch.optim where it has the rule.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtrain.optim import GRADIENT_TRANSFORMS, OPTIMIZERS
from tests.optim import trajectory_oracles as oracles
from tests.optim.trajectory_oracles import PROBLEMS, STEPS


def decaying(t: Any) -> Any:
    return 0.05 * 0.97**t


RATES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "constant": (0.05, lambda t: 0.05),
    "decaying": (lambda t: decaying(jnp.asarray(t).astype(jnp.result_type(float))), decaying),
}


SCALES = {"rmsprop": 0.1, "lamb": 0.1, "adadelta": 20.0}
"""Factors of the learning rates, by optimizer. Adadelta's default rate is 1. RMSProp and LAMB take steps of one length,
however small the gradient is: near an optimum they oscillate, and rounding errors grow into another path, in torch and
numpy as here."""


def rates_of(rule: str, rate: str) -> tuple[Any, Callable[[int], float]]:
    """Return the learning rate in the form of the package and in the form of the oracles."""
    scale, (traced, plain) = SCALES.get(rule, 1.0), RATES[rate]
    return (lambda t: scale * traced(t)) if callable(traced) else scale * traced, lambda t: scale * plain(t)


def warming(t: Any) -> Any:
    """A momentum that rises, from 1/2 to 0.95."""
    return 0.95 - 0.45 * 0.9**t


def traced_warming(t: Any) -> Any:
    return warming(jnp.asarray(t).astype(jnp.result_type(float)))


# name of the case: (optimizer, options, oracle, additional options of the oracle)
CASES: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any]]] = {
    "sgd": ("sgd", {}, oracles.sgd, {}),
    "sgd-decay": ("sgd", {"weight_decay": 0.1}, oracles.sgd, {}),
    "sgd-momentum": ("sgd", {"momentum": 0.9}, oracles.sgd, {}),
    "sgd-momentum-decay": ("sgd", {"momentum": 0.9, "weight_decay": 0.1}, oracles.sgd, {}),
    "sgd-nesterov": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05}, oracles.sgd, {}),
    "momentum": ("momentum", {}, oracles.momentum, {}),
    "momentum-decay": ("momentum", {"momentum": 0.8, "weight_decay": 0.1}, oracles.momentum, {}),
    "momentum-schedule": ("momentum", {"momentum": traced_warming}, oracles.momentum, {"momentum": warming}),
    "momentum-outside": ("momentum", {"lr_placement": "outside"}, oracles.momentum, {}),
    "momentum-outside-schedule": (
        "momentum",
        {"momentum": traced_warming, "lr_placement": "outside"},
        oracles.momentum,
        {"momentum": warming},
    ),
    "nesterov": ("nesterov", {}, oracles.nesterov, {}),
    "nesterov-decay": ("nesterov", {"momentum": 0.8, "weight_decay": 0.1}, oracles.nesterov, {}),
    "nesterov-schedule": ("nesterov", {"momentum": traced_warming}, oracles.nesterov, {"momentum": warming}),
    "adagrad": ("adagrad", {}, oracles.adagrad, {}),
    "adagrad-options": ("adagrad", {"eps": 1e-3, "weight_decay": 0.1}, oracles.adagrad, {}),
    "adagrad-begun": ("adagrad", {"initial_accumulator": 0.5}, oracles.adagrad, {}),
    "rmsprop": ("rmsprop", {}, oracles.rmsprop, {}),
    "rmsprop-options": ("rmsprop", {"decay": 0.99, "eps": 1e-3, "weight_decay": 0.1}, oracles.rmsprop, {}),
    "rmsprop-momentum": ("rmsprop", {"momentum": 0.8}, oracles.rmsprop, {}),
    "rmsprop-inside": ("rmsprop", {"momentum": 0.8, "lr_placement": "inside"}, oracles.rmsprop, {}),
    "rmsprop-centered": ("rmsprop", {"centered": True, "eps": 1e-2, "decay": 0.95}, oracles.rmsprop, {}),
    "adadelta": ("adadelta", {}, oracles.adadelta, {}),
    "adadelta-options": ("adadelta", {"rho": 0.95, "eps": 1e-3, "weight_decay": 0.1}, oracles.adadelta, {}),
    "adam": ("adam", {}, oracles.adam, {}),
    "adam-options": ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}, oracles.adam, {}),
    "adam-inside": ("adam", {"eps": 1e-3, "eps_inside_sqrt": True}, oracles.adam, {}),
    "adam-l2": ("adam", {"weight_decay": 0.1}, oracles.adam, {}),
    "adam-amsgrad": ("adam", {"amsgrad": True, "b2": 0.9}, oracles.adam, {}),
    "adam_uncorrected": ("adam_uncorrected", {}, oracles.adam, {"uncorrected": True}),
    "adamw": ("adamw", {}, oracles.adam, {"decoupled": True}),
    "adamw-options": ("adamw", {"b2": 0.95, "eps": 1e-3, "weight_decay": 0.3}, oracles.adam, {"decoupled": True}),
    "adamw-inside": ("adamw", {"eps": 1e-3, "eps_inside_sqrt": True}, oracles.adam, {"decoupled": True}),
    "adamw-schedule": (
        "adamw",
        {"decoupling": "schedule", "peak": 0.05, "weight_decay": 0.02},
        oracles.adam,
        {"decoupled": True},
    ),
    "nadam": ("nadam", {}, oracles.nadam, {}),
    "nadam-warmed": ("nadam", {"momentum_decay": 0.004, "weight_decay": 0.1}, oracles.nadam, {}),
    "powersign": ("powersign", {}, oracles.powersign, {}),
    "powersign-linear": (
        "powersign",
        {"base": 2.0, "internal_decay": "linear", "decay_steps": 60},
        oracles.powersign,
        {},
    ),
    "addsign": ("addsign", {}, oracles.addsign, {}),
    "addsign-cosine": (
        "addsign",
        {"alpha": 0.5, "internal_decay": "cosine", "decay_steps": 60, "weight_decay": 0.1},
        oracles.addsign,
        {},
    ),
    "lion": ("lion", {"weight_decay": 0.1}, oracles.lion, {}),
    "lars": ("lars", {"trust_coefficient": 0.1, "exclude_vectors": False, "weight_decay": 0.1}, oracles.lars, {}),
    "lamb": ("lamb", {"exclude_vectors": False, "weight_decay": 0.1}, oracles.lamb, {}),
}
each_problem_and_rate = [(problem, rate) for problem in PROBLEMS for rate in RATES]
Paths = dict[tuple[str, str], np.ndarray]
WIDTH = max(problem.start.size for problem in PROBLEMS.values())
"""Size of the points in the compiled loops; shorter ones are padded with zeros, whose gradient is zero."""


def paths_of(optimizers: dict[str, optax.GradientTransformationExtraArgs]) -> Paths:
    """The points of each problem after each step of each optimizer, in one program; gradients are jax's own.

    Both problems go through one scan: what is compiled is the optimizer, once.
    """

    def path(tx: Any, problem: jax.Array, start: jax.Array) -> jax.Array:
        def objective(x: jax.Array) -> jax.Array:
            return jax.lax.select_n(problem, *(p.value(x[: p.start.size], jnp) for p in PROBLEMS.values()))

        def body(carry: Any, _: None) -> Any:
            x, state = carry
            updates, state = tx.update(jax.grad(objective)(x), state, x, value_fn=objective)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return jax.lax.scan(body, (start, tx.init(start)), None, length=STEPS)[1]

    @jax.jit
    def run(starts: jax.Array) -> dict[str, jax.Array]:
        each = jnp.arange(len(PROBLEMS), dtype=jnp.int32)
        return {rate: jax.vmap(functools.partial(path, tx))(each, starts) for rate, tx in optimizers.items()}

    with jax.enable_x64(True):
        starts = np.stack([np.pad(p.start, (0, WIDTH - p.start.size)) for p in PROBLEMS.values()])
        found = jax.device_get(run(starts))
    paths = {
        (name, rate): found[rate][i, :, : p.start.size]
        for i, (name, p) in enumerate(PROBLEMS.items())
        for rate in found
    }
    assert all(path.dtype == np.float64 for path in paths.values())
    return paths


@functools.cache
def ours(case: str) -> Paths:
    """The paths of a case by problem and rate."""
    name, options, _, _ = CASES[case]
    with jax.enable_x64(True):
        return paths_of({r: OPTIMIZERS.create(name, learning_rate=rates_of(name, r)[0], **options) for r in RATES})


def assert_same_path(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(actual - expected) / scale).max() < 1e-12
    assert np.abs(expected[-1] - expected[0]).max() > 0.02  # there was something to get wrong


@pytest.mark.parametrize("problem", PROBLEMS)
def test_oracle_gradients_equal_automatic_differentiation(problem: str):
    p = PROBLEMS[problem]
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(lambda x: p.value(x, jnp)))(p.start)
        hessian = jax.jit(jax.hessian(lambda x: p.value(x, jnp)))(p.start)
    np.testing.assert_allclose(gradient, p.gradient(p.start), rtol=1e-12, atol=1e-14)
    if problem == "net":
        assert np.linalg.eigvalsh(np.asarray(hessian)).min() < 0


@pytest.mark.quick_cases("nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "lion", "lamb")
@pytest.mark.parametrize("case", CASES)
def test_optimizer_equals_numpy(case: str):
    name, options, oracle, told = CASES[case]
    for problem, rate in each_problem_and_rate:
        expected = oracle(PROBLEMS[problem], rates_of(name, rate)[1], {**options, **told})
        assert_same_path(ours(case)[problem, rate], expected)


def _torch_options(options: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    kept = {renamed.get(k, k): v for k, v in options.items() if k not in ("b1", "b2", "lr_placement")}
    if "b1" in options or "b2" in options:
        kept["betas"] = (options.get("b1", 0.9), options.get("b2", 0.999))
    return kept


# Cases that torch has too: its class, and how it calls the options. Its own defaults are overridden.
IN_TORCH: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "sgd": ("SGD", {}, {}),
    "sgd-decay": ("SGD", {}, {}),
    "sgd-momentum": ("SGD", {}, {}),
    "sgd-momentum-decay": ("SGD", {}, {}),
    "sgd-nesterov": ("SGD", {}, {}),
    "momentum-outside": ("SGD", {"momentum": 0.9}, {}),
    "adagrad": ("Adagrad", {"eps": 1e-7}, {}),
    "adagrad-options": ("Adagrad", {}, {}),
    "adagrad-begun": ("Adagrad", {"eps": 1e-7}, {"initial_accumulator": "initial_accumulator_value"}),
    "rmsprop": ("RMSprop", {"alpha": 0.9, "eps": 1e-7}, {}),
    "rmsprop-options": ("RMSprop", {}, {"decay": "alpha"}),
    "rmsprop-momentum": ("RMSprop", {"alpha": 0.9, "eps": 1e-7}, {}),
    "rmsprop-centered": ("RMSprop", {}, {"decay": "alpha"}),
    "adadelta": ("Adadelta", {}, {}),
    "adadelta-options": ("Adadelta", {}, {}),
    "adam": ("Adam", {}, {}),
    "adam-options": ("Adam", {}, {}),
    "adam-l2": ("Adam", {}, {}),
    "adam-amsgrad": ("Adam", {}, {}),
    "adamw": ("AdamW", {}, {}),
    "adamw-options": ("AdamW", {}, {}),
    "nadam": ("NAdam", {"momentum_decay": 1e9}, {}),  # 0.96 to that power is 0: a constant momentum
    "nadam-warmed": ("NAdam", {}, {}),
}


def torch_path(case: str, problem: str, rate: str) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="the oracle is torch.optim")
    kind, defaults, renamed = IN_TORCH[case]
    p, schedule = PROBLEMS[problem], rates_of(CASES[case][0], rate)[1]
    x = torch.tensor(p.start, requires_grad=True)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # NAdam keeps a product of its momenta in the default dtype
    try:
        tx = getattr(torch.optim, kind)([x], lr=schedule(0), **defaults, **_torch_options(CASES[case][1], renamed))
        path = []
        for t in range(STEPS):
            tx.param_groups[0]["lr"] = schedule(t)
            tx.zero_grad()
            p.value(x, torch).backward()
            tx.step()
            path.append(x.detach().numpy().copy())
    finally:
        torch.set_default_dtype(before)
    return np.array(path)


@pytest.mark.quick_cases("sgd-nesterov", "adam")
@pytest.mark.parametrize("case", IN_TORCH)
def test_optimizer_equals_torch(case: str):
    for problem, rate in each_problem_and_rate:
        assert_same_path(ours(case)[problem, rate], torch_path(case, problem, rate))


def test_delayed_sgd_equals_a_numpy_loop_with_old_gradients():
    delays = {"plain": [], "none": [{"steps": 0}], "late": [{"steps": 3}]}
    with jax.enable_x64(True):
        paths = paths_of(
            {
                name: optax.chain(
                    *(GRADIENT_TRANSFORMS.create("delay", **given) for given in before),
                    OPTIMIZERS.create("sgd", learning_rate=0.02),
                )
                for name, before in delays.items()
            }
        )
    for problem, p in PROBLEMS.items():
        plain, none, late = (paths[problem, name] for name in delays)
        np.testing.assert_array_equal(none, plain)
        x, waiting, path = p.start.copy(), [np.zeros_like(p.start)] * 3, []
        for _ in range(STEPS):
            waiting.append(p.gradient(x))
            x = x - 0.02 * waiting.pop(0)
            path.append(x)
        assert_same_path(late, np.array(path))
        assert not np.allclose(late, plain)


@pytest.mark.parametrize("rule", ["momentum", "nesterov"])
def test_lr_placement_matters_only_with_a_changing_learning_rate(rule: str):
    """torch's and optax's forms agree with these at a constant rate, and not at a decaying rate."""
    options = {"momentum": 0.9, "nesterov": rule == "nesterov"}
    with jax.enable_x64(True):
        outside = paths_of({r: OPTIMIZERS.create("sgd", learning_rate=RATES[r][0], **options) for r in RATES})
    for rate, same in (("constant", True), ("decaying", False)):
        assert (np.abs(outside["bowl", rate] - ours(rule)["bowl", rate]).max() < 1e-11) == same
