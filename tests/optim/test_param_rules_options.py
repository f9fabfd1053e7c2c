"""Options of the first-order optimizers: refused values, and meanings that float64 trajectories do not show."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrain.config import OptimizerSpec
from jaxtrain.errors import ConfigError
from jaxtrain.optim import OPTIMIZERS
from tests.conftest import examples


def rising(t: Any) -> jax.Array:
    return 1 - 0.5 / (t + 1).astype(jnp.result_type(float))


# Every optimizer in every form with a different state or a different trajectory.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"momentum": 0.9, "nesterov": True}),
    "momentum": ("momentum", {}),
    "momentum-outside": ("momentum", {"lr_placement": "outside"}),
    "momentum-schedule": ("momentum", {"momentum": rising}),
    "nesterov": ("nesterov", {}),
    "nesterov-schedule": ("nesterov", {"momentum": rising}),
    "adagrad": ("adagrad", {}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop-centered": ("rmsprop", {"centered": True, "momentum": 0.5}),
    "adadelta": ("adadelta", {}),
    "adam": ("adam", {"weight_decay": 0.1}),
    "adam-root": ("adam", {"eps_inside_sqrt": True}),
    "adam-amsgrad": ("adam", {"amsgrad": True}),
    "adam_uncorrected": ("adam_uncorrected", {}),
    "adamw": ("adamw", {}),
    "adamw-schedule": ("adamw", {"decoupling": "schedule"}),
    "adamw-peak": ("adamw", {"decoupling": "schedule", "peak": 0.2}),
    "nadam": ("nadam", {}),
    "nadam-warmed-up": ("nadam", {"momentum_decay": 0.004}),
    "powersign": ("powersign", {"internal_decay": "linear", "decay_steps": 3}),
    "addsign": ("addsign", {"internal_decay": "cosine", "decay_steps": 3}),
    "lion": ("lion", {"weight_decay": 0.1}),
}
forms = pytest.mark.parametrize("form", FORMS)


def create(form: str, **changes: Any) -> optax.GradientTransformationExtraArgs:
    name, options = FORMS[form]
    return OPTIMIZERS.create(name, **{"learning_rate": 0.1, **options, **changes})


def moves(name: str, gradients: list[float], **options: Any) -> np.ndarray:
    """Return the updates of one number at 0 in float64; the default learning rate is 1."""
    with jax.enable_x64(True):
        tx = OPTIMIZERS.create(name, **{"learning_rate": 1.0, **options})
        x = jnp.zeros((), jnp.float64)
        state, result = tx.init(x), []
        for g in gradients:
            update, state = tx.update(jnp.asarray(g, jnp.float64), state, x)
            result.append(float(update))
    return np.array(result)


# Refusals


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sgd", {"nesterov": True}, "momentum above 0"),
        ("adamw", {"peak": 0.1}, "remove peak"),
        (
            "adamw",
            {"learning_rate": lambda t: 0.1, "decoupling": "schedule"},
            "requires peak=..., the highest learning rate",
        ),
        ("powersign", {"internal_decay": "linear"}, "set decay_steps"),
        ("addsign", {"internal_decay": "cosine"}, "set decay_steps"),
        ("powersign", {"decay_steps": 10}, "needs internal_decay"),
        ("addsign", {"decay_steps": 10}, "needs internal_decay"),
    ],
)
def test_optimizer_refuses_inconsistent_options(name: str, options: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        OPTIMIZERS.create(name, **{"learning_rate": 0.1, **options})


@pytest.mark.parametrize(
    "text",
    [
        "momentum(0.1, momentum=1.0)",
        "momentum(0.1, momentum=-0.1)",
        "momentum(0.1, lr_placement='both')",
        "nesterov(0.1, momentum='cosine')",
        "adagrad(0.1, eps=0)",
        "adagrad(0.1, initial_accumulator=-1)",
        "rmsprop(0.1, decay=1)",
        "rmsprop(0.1, lr_placement='middle')",
        "adadelta(rho=1.5)",
        "adam(0.1, b1=1)",
        "adam(0.1, amsgrad=1)",
        "adam_uncorrected(0.1, weight_decay=0.1)",
        "adamw(0.1, decoupling='eta')",
        "adamw(0.1, decoupling='schedule', peak=0)",
        "nadam(0.1, momentum_decay=-0.004)",
        "powersign(0.1, base=0)",
        "powersign(0.1, internal_decay='restart')",
        "addsign(0.1, alpha=-1)",
        "lion(0.1, b2=1)",
    ],
)
def test_optimizer_spec_refuses_options_out_of_range(text: str):
    name = text.partition("(")[0]
    OptimizerSpec.parse(f"{name}(0.1)")  # the rest of the text is valid
    with pytest.raises(ConfigError):
        OptimizerSpec.parse(text)


def test_adamw_without_parameters_raises_an_error():
    tx = create("adamw")
    state = tx.init(jnp.ones(2))
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(jnp.ones(2), state)


# What holds for each of them


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@forms
def test_optimizer_keeps_dtypes_and_shapes_of_mixed_precision_trees(form: str):
    """The tree has float32, float64 and bfloat16 leaves and empty containers; unknown extra arguments are passed."""
    with jax.enable_x64(True):
        params = {
            "single": jnp.ones((2, 3), jnp.float32),
            "double": (jnp.ones((), jnp.float64), optax.MaskedNode()),
            "half": [jnp.ones(4, jnp.bfloat16)],
            "nothing": {},
        }
        tx = create(form)
        step = lambda p, s: tx.update(p, s, p, value=jnp.float32(1), unheard_of="x")  # noqa: E731
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(step, params, state)
        assert kinds(updates) == kinds(params)
        assert kinds(after) == kinds(state)


@forms
def test_injected_hyperparameters_do_not_change_dtypes(form: str):
    """`optax.inject_hyperparams` makes every number an array of the widest dtype of the tree."""
    name, options = FORMS[form]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # optax's own conversions
        params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones((), jnp.float64), "c": jnp.ones(3, jnp.bfloat16)}
        tx = optax.inject_hyperparams(OPTIMIZERS[name].load())(**{"learning_rate": 0.1, **options})
        state = jax.eval_shape(tx.init, params)
        assert state.hyperparams["learning_rate"].dtype == jnp.float64
        updates, after = jax.eval_shape(tx.update, params, state, params)
        assert kinds(updates) == kinds(params)
        assert kinds(after.inner_state) == kinds(state.inner_state)


@forms
def test_optimizer_state_can_be_donated(form: str):
    """No two arrays of a fresh state share a buffer: XLA refuses to donate one twice."""
    tx = create(form)
    params = {"a": jnp.ones(3), "b": jnp.ones(())}
    arrays = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tx.init(params))]
    assert len(set(arrays)) == len(arrays)


@pytest.mark.quick_cases("adam", "nesterov")
@forms
def test_bfloat16_updates_follow_float32_updates(form: str):
    """In bfloat16 0.999 is 1: a second moment kept there would never forget. Constant parameters, 40 gradients."""
    tx = create(form)
    gradients = jnp.asarray(np.random.default_rng(1).normal(size=(40, 8)), jnp.bfloat16)

    def last(dtype: Any) -> jax.Array:
        params = jnp.ones(8, dtype)

        def body(state: Any, g: jax.Array) -> Any:
            updates, state = tx.update(g.astype(dtype), state, params)
            return state, updates

        return jax.lax.scan(body, tx.init(params), gradients)[1][-1].astype(jnp.float32)

    single, half = jax.jit(lambda: (last(jnp.float32), last(jnp.bfloat16)))()
    assert np.abs(single).min() > 1e-7 or form == "addsign"
    np.testing.assert_allclose(half, single, rtol=2**-8)  # one rounding, at the end


def test_nadam_under_vmap_equals_separate_runs():
    tx = create("nadam-warmed-up")
    gradients = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 5)), jnp.float32)

    def run(gradients: jax.Array) -> jax.Array:
        x = jnp.zeros(5)
        return jax.lax.scan(lambda s, g: tx.update(g, s, x)[::-1], tx.init(x), gradients)[1]

    together = jax.jit(jax.vmap(run))(gradients)
    one = jax.jit(run)
    np.testing.assert_allclose(together, np.stack([one(g) for g in gradients]), rtol=1e-6)


# What single options mean


@pytest.mark.parametrize("name", ["momentum", "rmsprop"])
def test_lr_placement_decides_whether_the_velocity_keeps_old_rates(name: str):
    """A rate of 1 for one step and then 0: inside, the velocity goes on; outside, everything stops."""
    rate = lambda t: jnp.where(t < 1, 1.0, 0.0)  # noqa: E731
    inside = moves(name, [1.0, 1.0, 1.0], learning_rate=rate, momentum=0.5, lr_placement="inside")
    outside = moves(name, [1.0, 1.0, 1.0], learning_rate=rate, momentum=0.5, lr_placement="outside")
    assert inside[0] == outside[0] < 0
    np.testing.assert_allclose(inside[1:], [inside[0] / 2, inside[0] / 4], rtol=1e-14)
    np.testing.assert_array_equal(outside[1:], [0, 0])


@pytest.mark.slow
def test_adaptive_optimizers_do_not_move_without_gradients():
    for name in ("adagrad", "rmsprop", "adadelta", "adam", "adam_uncorrected", "nadam"):
        np.testing.assert_array_equal(moves(name, [0.0, 0.0]), [0, 0])


def test_adadelta_descends_with_its_defaults():
    """optax's alias with its default does not: it has no learning rate then, and no sign."""
    assert (moves("adadelta", [1.0, 2.0, 0.5]) < 0).all()
    x = jnp.ones(())
    tx = optax.adadelta()
    assert tx.update(x, tx.init(x), x)[0] > 0


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_centered_rmsprop_is_accurate_for_nearly_constant_gradients(decay: float):
    """In float32 the mean of squares less the square of the mean would be negative here, or pure rounding."""
    tx = OPTIMIZERS.create("rmsprop", learning_rate=1.0, decay=decay, centered=True, eps=1e-7)
    gradients = 1 + 1e-4 * np.random.default_rng(3).normal(size=60)
    state, x, s, m = tx.init(jnp.zeros(())), jnp.zeros(()), 0.0, 0.0
    for g in gradients.astype(np.float32):
        update, state = tx.update(jnp.asarray(g), state, x)
        s, m = decay * s + (1 - decay) * float(g) ** 2, decay * m + (1 - decay) * float(g)
    expected = -g / (math.sqrt(max(s - m * m, 0.0)) + 1e-7)
    np.testing.assert_allclose(update, expected, rtol=0.02)


def test_adam_uncorrected_takes_a_first_step_three_times_as_long():
    first = moves("adam_uncorrected", [0.7])[0] / moves("adam", [0.7])[0]
    np.testing.assert_allclose(first, (1 - 0.9) / math.sqrt(1 - 0.999), rtol=1e-6)  # eps is not quite nothing


def test_amsgrad_keeps_the_largest_second_moment():
    """After one large gradient and many small ones Adam's steps recover and AMSGrad's do not."""
    gradients = [100.0] + [1.0] * 30
    options = {"b1": 0.0, "b2": 0.5}
    assert moves("adam", gradients, **options)[-1] == pytest.approx(-1, rel=1e-3)
    largest = 0.5 * 100**2
    assert moves("adam", gradients, amsgrad=True, **options)[-1] == pytest.approx(-1 / math.sqrt(largest), rel=1e-6)


def decay_alone(learning_rate: Any, **options: Any) -> list[float]:
    """Return the decay of a parameter by AdamW in each of three steps with zero gradients."""
    with jax.enable_x64(True):
        tx = OPTIMIZERS.create("adamw", learning_rate=learning_rate, weight_decay=0.01, **options)
        x = jnp.ones((), jnp.float64)
        state, shares = tx.init(x), []
        for _ in range(3):
            update, state = tx.update(jnp.zeros_like(x), state, x)
            shares.append(-float(update))
    return shares


def halving(peak: float) -> Callable[[jax.Array], jax.Array]:
    return lambda t: peak * jnp.asarray(0.5, jnp.float64) ** t.astype(jnp.float64)


@pytest.mark.parametrize("peak", [0.1, 0.3])
def test_adamw_scales_decay_by_learning_rate_or_schedule(peak: float):
    """With schedule decoupling, a larger peak does not increase the decay."""
    np.testing.assert_allclose(decay_alone(halving(peak)), 0.01 * peak * np.array([1, 0.5, 0.25]), rtol=1e-12)
    by_schedule = decay_alone(halving(peak), decoupling="schedule", peak=peak)
    np.testing.assert_allclose(by_schedule, 0.01 * np.array([1, 0.5, 0.25]), rtol=1e-12)
    np.testing.assert_allclose(decay_alone(peak, decoupling="schedule"), [0.01] * 3, rtol=1e-12)
    np.testing.assert_allclose(decay_alone(peak, decoupling="schedule", peak=0.6), [0.01 * peak / 0.6] * 3, rtol=1e-12)


def test_adamw_with_schedule_decoupling_decays_at_learning_rate_zero():
    np.testing.assert_allclose(decay_alone(0.0, decoupling="schedule"), [0.01] * 3, rtol=1e-12)


def test_every_optimizer_accepts_weight_decay_rules_by_path():
    """Each optimizer decays the kernel and not the bias."""
    rules = (("kernel", 0.5), (".*", 0.0))
    params = {"kernel": jnp.full(2, 4.0), "bias": jnp.full(2, 4.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for form in FORMS.keys() - {"adam_uncorrected"}:  # which has no weight decay
        tx = create(form, weight_decay=rules)
        updates, _ = tx.update(zeros, tx.init(params), params)
        assert (updates["kernel"] < 0).all(), form
        assert not updates["bias"].any(), form


@given(psi=st.floats(0.0, 10.0, allow_subnormal=False), t=st.integers(1, 5))
@examples(20)
def test_nadam_momentum_decay_equals_the_closed_form(psi: float, t: int):
    """Step t with no gradient before it: all that is left is (1 - mu_t) / (1 - P_t) and mu_t+1 / (1 - P_t+1)."""
    b1 = 0.9
    mu = [b1 * (1 - 0.5 * 0.96 ** (k * psi)) if psi else b1 for k in range(1, t + 2)]
    product = np.cumprod(mu)
    of_gradient, of_mean = (1 - mu[t - 1]) / (1 - product[t - 1]), mu[t] / (1 - product[t])
    root = math.sqrt((1 - 0.999) / (1 - 0.999**t))
    expected = -(of_gradient + of_mean * (1 - b1)) / (root + 1e-8)
    actual = moves("nadam", [0.0] * (t - 1) + [1.0], momentum_decay=psi)[-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-11)


def test_nadam_without_momentum_decay_equals_optax_nadam():
    gradients = [1.0, -0.5, 2.0, 0.1]
    plain = moves("nadam", gradients)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        injected = optax.inject_hyperparams(OPTIMIZERS["nadam"].load())(learning_rate=1.0)
        for tx in (optax.nadam(1.0), injected):
            x = jnp.zeros((), jnp.float64)
            state, others = tx.init(x), []
            for g in gradients:
                update, state = tx.update(jnp.asarray(g, jnp.float64), state, x)
                others.append(float(update))
            np.testing.assert_allclose(others, plain, rtol=1e-12)


@pytest.mark.slow
@given(steps=st.integers(1, 8))
@examples(8)
def test_sign_optimizers_internal_decay_falls_from_1_to_0(steps: int):
    """With gradients of constant sign, the factors are base ** f(t) and alpha + f(t)."""
    t = np.minimum(np.arange(steps + 3), steps) / steps
    forms = {"none": np.ones_like(t), "linear": 1 - t, "cosine": (1 + np.cos(np.pi * t)) / 2}
    for form, f in forms.items():
        options = {"internal_decay": form, "decay_steps": 0 if form == "none" else steps}
        powers = moves("powersign", [2.0] * len(t), base=1.5, **options)
        np.testing.assert_allclose(powers, -2 * 1.5**f, rtol=1e-14)
        sums = moves("addsign", [2.0] * len(t), alpha=0.5, **options)
        np.testing.assert_allclose(sums, -2 * (0.5 + f), rtol=1e-14)


def test_powersign_handles_gradients_whose_product_underflows():
    """In float32 the product of 1e-30 and 1e-31 is 0 and has no sign; a gradient of 0 gives no update."""
    tx = OPTIMIZERS.create("powersign", learning_rate=1.0)
    x = jnp.zeros(2)
    updates, _ = tx.update(jnp.asarray([1e-30, 0.0]), tx.init(x), x)
    np.testing.assert_allclose(updates, [-math.e * 1e-30, 0.0], rtol=1e-6)


def test_constant_momentum_schedule_equals_constant_momentum():
    gradients = [1.0, -2.0, 0.5, 3.0]
    for name in ("momentum", "nesterov"):
        scheduled = moves(name, gradients, momentum=lambda t: jnp.full_like(t, 0.7, jnp.float64))
        np.testing.assert_allclose(scheduled, moves(name, gradients, momentum=0.7), rtol=1e-14)


def test_nesterov_looks_ahead_with_the_momentum_of_the_next_step():
    """m_0 = 0.5 acts on no velocity yet; the first point ahead is m_1 = 0.9 further along."""
    momentum = lambda t: jnp.where(t == 0, 0.5, 0.9)  # noqa: E731
    assert moves("nesterov", [1.0], momentum=momentum)[0] == pytest.approx(-1.9, rel=1e-14)
