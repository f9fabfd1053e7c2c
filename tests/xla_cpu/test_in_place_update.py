"""In-place parameter updates: unchanged gradients, and no copies of kernels in the program for one CPU."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain.analysis.compiled_step import compile_step
from jaxtrain.distributed import sharded_step as sharing
from jaxtrain.training.plan import Plan, make_plan
from jaxtrain.xla_cpu.in_place_update import finish_gradients_first
from tests.conftest import tiny_config

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.2e-38, -1.2e-38, 3.4e38, 1.5]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_finish_gradients_first_keeps_all_bits(dtype: Any) -> None:
    """Each special value takes each position, since the implementation reads the first element."""
    with np.errstate(over="ignore"):
        special = np.asarray(SPECIAL).astype(dtype)
    grads = {str(n): jnp.asarray(np.roll(special, n)) for n in range(len(SPECIAL))}
    grads |= {"scalar": jnp.asarray(np.inf, dtype), "empty": jnp.zeros((0, 3), dtype)}
    for found in (finish_gradients_first(grads), jax.jit(finish_gradients_first)(grads)):
        for name, wanted in grads.items():
            assert found[name].dtype == wanted.dtype
            assert np.asarray(found[name]).tobytes() == np.asarray(wanted).tobytes()


def kernels_copied(plan: Plan) -> int:
    return len(re.findall(r"f32\[(?:40,48|48,56)\]\S* copy\(", compile_step(plan).executable.as_text()))


def test_compiled_train_step_does_not_copy_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tiny_config(model="mlp(widths=[40, 48, 56])", optimizer="adamw(0.001)"))
    assert kernels_copied(plan) == 0
    monkeypatch.setattr(sharing, "finish_gradients_first", lambda grads: grads)
    assert kernels_copied(make_plan(plan.config)) >= 2  # without the in-place update there are copies
