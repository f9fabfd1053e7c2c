"""Twenty training steps end in the same parameters for every layout of devices.

Dropout, augmentation and batch normalization are on. The activation is smooth: at inputs near zero, a rounding error
switches the gradient of a ReLU on or off, and two correct programs diverge.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.analysis.memory import state_bytes, sum_bytes
from jaxtrain.config import ParallelConfig, apply_overrides
from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.errors import ConfigError, WorkdirError
from jaxtrain.nn.dropout import Dropout
from jaxtrain.nn.normalization import BatchNorm
from jaxtrain.run.compiled_run import compile_run
from jaxtrain.run.directory import Workdir
from jaxtrain.run.fit import fit
from jaxtrain.training.plan import Plan, make_plan
from jaxtrain.training.state import state_initializer
from tests.conftest import tiny_config
from tests.levels import slow_except

FSDP = "parallel.fsdp=true parallel.fsdp_min_size=64"
STEPS = 20


class Net(nn.Module):
    """Two normalized convolutions, the second with a stride; dropout between them; a dense layer."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.dtype}
        for features, stride in ((8, 1), (32, 2)):
            x = nn.Conv(features, (3, 3), stride, use_bias=False, **kinds)(x)
            x = jax.nn.gelu(BatchNorm(train=train, **kinds)(x))
            x = Dropout(train, 0.3)(x)
        return nn.Dense(4, **kinds)(x.mean(axis=(1, 2)))


def plan_run(overrides: str) -> Plan:
    settings = [
        "data.dataset=synthetic(height=8, width=8, num_classes=4, train_examples=160, test_examples=16)",
        "data.augment=pad_crop(2)|flip_lr",
        "data.validation=none",
        "optimizer=momentum(learning_rate=0.05)",
        f"train_for={STEPS} steps",
    ]
    plan = make_plan(apply_overrides(tiny_config(), [*settings, *overrides.split()]))
    model = Net(jnp.float64 if jax.config.jax_enable_x64 else jnp.float32)
    begun = jax.eval_shape(state_initializer(model, plan.optimizer.tx, plan.splits.image_shape, 0))
    return dataclasses.replace(plan, model=model, abstract=begun)


def train(overrides: str) -> Any:
    """Return the state after a run with the functions that `fit` uses."""
    plan = plan_run(overrides)
    splits = load_splits(plan.splits, ("train",), 0)
    run = compile_run(plan, fit_normalization(plan.splits, splits["train"]), splits)
    init = state_initializer(plan.model, plan.optimizer.tx, plan.splits.image_shape, 0)
    state = plan.layout.jit(init, out_shardings=plan.layout.of_state(plan.abstract))()
    totals = run.empty()
    for step in range(STEPS):
        state, totals, tick = run.dispatch(state, totals, run.order.order(step), run.batches(step))
        tick.block_until_ready()  # queued collectives of emulated devices can deadlock
    return state


@pytest.fixture(scope="module")
def params() -> Any:
    """Return `overrides -> parameters after the run`; each run is trained once in each precision."""

    @functools.cache
    def run(overrides: str, double: bool) -> Any:
        del double
        return jax.tree.map(np.asarray, train(overrides).params)

    return lambda overrides="": run(overrides, jax.config.jax_enable_x64)


def distance(a: Any, b: Any) -> float:
    """Return the largest difference, relative to the largest value of its array."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in pairs)


LAYOUTS = [
    "devices=2",
    "devices=4",
    "devices=8",
    f"devices=8 {FSDP}",
    "devices=8 parallel.model=2 parallel.model_min_width=32",
    f"devices=8 parallel.model=2 parallel.model_min_width=32 {FSDP}",
    "devices=8 parallel.axis_types=explicit",
    f"devices=8 parallel.axis_types=explicit {FSDP}",
    "devices=8 parallel.backend=pmap",
]


@pytest.mark.quick_cases("*fsdp*", "*pmap*")
@pytest.mark.parametrize(
    "overrides", slow_except(LAYOUTS, "devices=4", f"devices=8 {FSDP}", "devices=8 parallel.backend=pmap")
)
def test_a_run_does_not_depend_on_the_layout_of_devices(params: Any, overrides: str) -> None:
    assert distance(params(), params(overrides)) < 1e-5


@pytest.mark.exhaustive_cases("*explicit", "*batch_norm=device*")
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        "devices=4",
        "devices=4 parallel.backend=pmap",
        "devices=4 parallel.axis_types=explicit",
        "devices=8 parallel.batch_norm=device",
        "devices=8 parallel.batch_norm=device parallel.backend=pmap",
    ],
)
def test_batch_norm_groups_give_the_same_run_on_any_layout(params: Any, overrides: str) -> None:
    groups = params("parallel.batch_norm=2")
    chosen = overrides if "batch_norm" in overrides else f"{overrides} parallel.batch_norm=2"
    assert distance(groups, params(chosen)) < 1e-5
    assert distance(groups, params()) > 1e-2  # group statistics differ from those of the whole batch


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", ["", "devices=4", "devices=2 parallel.axis_types=explicit", "devices=2 parallel.backend=pmap"]
)
def test_micro_batches_of_whole_batch_norm_groups_give_the_same_run(params: Any, overrides: str) -> None:
    whole, parts = "parallel.batch_norm=2", f"parallel.batch_norm=2 data.micro_batch=4 {overrides}"
    if "pmap" in overrides:  # each device has eight examples
        parts = parts.replace("micro_batch=4", "micro_batch=2")
    assert distance(params(whole), params(parts)) < 1e-5


def test_micro_batches_that_split_batch_norm_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="16 examples cannot be split into 4 micro-batches of complete groups of 8"):
        plan_run("parallel.batch_norm=8 data.micro_batch=4")


@pytest.mark.slow
def test_mixup_with_pmap_mixes_the_whole_batch(params: Any) -> None:
    mix = "data.mix=mixup(0.2)"
    assert distance(params(mix), params(f"{mix} devices=4 parallel.backend=pmap")) < 1e-5


@pytest.mark.exhaustive_cases("devices=8", "*explicit")
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    ["devices=8", f"devices=8 {FSDP}", "devices=8 parallel.axis_types=explicit", "devices=8 parallel.backend=pmap"],
)
def test_a_run_does_not_depend_on_the_layout_in_double_precision(params: Any, overrides: str) -> None:
    with jax.enable_x64(True):
        assert distance(params(), params(overrides)) < 1e-10


@pytest.mark.slow
def test_micro_batches_give_the_same_run_in_double_precision(params: Any) -> None:
    whole = "parallel.batch_norm=2"
    with jax.enable_x64(True):
        assert distance(params(whole), params(f"{whole} data.micro_batch=4")) < 1e-10


def test_fsdp_on_eight_devices_needs_at_most_a_sixth_of_the_memory() -> None:
    config = apply_overrides(
        tiny_config(model="vgg11", optimizer="adam(learning_rate=1e-3)", devices=8),
        ["data.dataset=synthetic(height=32, width=32, num_classes=1000, train_examples=96)", "parallel.fsdp=true"],
    )
    plan = make_plan(config)
    state = sum_bytes("state", state_bytes(plan))
    assert state.total > 300e6  # parameters and Adam's two moments
    assert state.per_device <= state.total / 6


@pytest.mark.slow
def test_fsdp_keeps_the_state_sharded_after_training() -> None:
    """After the run, each device holds an eighth of the larger arrays of the state, the moments included."""
    state = train(f"devices=8 {FSDP} optimizer=adam(learning_rate=1e-3)")
    large = [x for x in jax.tree.leaves((state.params, state.opt_state)) if x.size >= 64]
    assert len(large) == 9  # two convolutions and a dense layer
    assert all(x.addressable_shards[0].data.size == x.size // 8 for x in large)


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        (
            {"model": 3},
            "parallel.model",
            "8 devices do not divide evenly into a model axis of 3; choose one of 1, 2, 4, 8",
        ),
        ({"axis_types": "explicit", "model": 2}, "parallel.axis_types", "set parallel.axis_types=auto"),
        ({"backend": "pmap", "fsdp": True}, "parallel.fsdp", "need parallel.backend=jit"),
        ({"backend": "pmap", "axis_types": "explicit"}, "parallel.axis_types", "need parallel.backend=jit"),
        (
            {"batch_norm": 5},
            "parallel.batch_norm",
            "16 examples, which do not divide evenly into groups of 5; .* 4 or 8",
        ),
        ({"batch_norm": 4, "backend": "pmap"}, "parallel.batch_norm", "2 examples, .* groups of 4; .* 2"),
    ],
)
def test_incompatible_parallel_settings_are_refused(settings: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        make_plan(tiny_config(devices=8, parallel=ParallelConfig(**settings)))
    assert raised.value.path == path


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"dense_7": "data"}, "'dense_7' matches no array of the state; there are "),
        ({"bias": "data -"}, "'data -' has 2 words, but .*bias has 1 dimensions"),
        ({"kernel": "data data"}, "shards two dimensions of .*kernel along the same axis"),
        ({"kernel": "rows"}, "'rows' is not a mesh axis; for each dimension write 'data', 'model' or '-'"),
        ({"logits/bias": "data"}, "a dimension of 3 of .*logits/bias does not divide evenly among 8 devices"),
        ({"(": "data"}, "is not a regular expression"),
    ],
)
def test_sharding_rules_that_match_no_array_or_axis_are_refused(rules: dict[str, str], message: str) -> None:
    config = tiny_config(devices=8, parallel=ParallelConfig(rules=rules))
    with pytest.raises(ConfigError, match=message) as raised:
        make_plan(config)
    assert raised.value.path == "parallel.rules"


@pytest.mark.parametrize("optimizer", ["sam(inner='sgd(learning_rate=0.1)')"])
def test_pmap_refuses_optimizers_that_evaluate_the_objective(optimizer: str) -> None:
    config = tiny_config(optimizer=optimizer, devices=2, parallel=ParallelConfig(backend="pmap"))
    with pytest.raises(ConfigError, match=r"cannot do for the whole batch; set parallel\.backend=jit"):
        make_plan(config)


def test_a_run_resumes_on_another_number_of_devices(tmp_path: Path) -> None:
    for devices, parallel in ((1, ParallelConfig()), (2, ParallelConfig(fsdp=True))):
        fit(tiny_config(devices=devices, parallel=parallel), tmp_path / "run")
        assert Workdir(tmp_path / "run").read_config().devices == devices
    with pytest.raises(WorkdirError, match=r'parallel\.batch_norm: "global" there, 4 now'):
        fit(tiny_config(devices=2, parallel=ParallelConfig(batch_norm=4)), tmp_path / "run")
    with pytest.raises(
        WorkdirError, match="devices: 2 there, 1 now"
    ):  # because the device count changes the result here
        fit(tiny_config(devices=1, parallel=ParallelConfig(batch_norm="device")), tmp_path / "run")
