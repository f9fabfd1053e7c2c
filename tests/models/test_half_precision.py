"""Every model family in half precision: dtypes of matrix multiplications and of the rest, from shapes alone."""

import dataclasses
from typing import Any

import jax
import pytest

from jaxtrain.analysis.dtypes import MATMULS_AND_CONVS, equations, normalization_dtypes, trace_forward
from jaxtrain.config import ModelSpec
from jaxtrain.models.outputs import Outputs
from tests.levels import slow_except
from tests.models.test_training import CLASSES, SMALL

SOFT = ("exp", "log", "reduce_window_sum", "rsqrt", "pow", "cumsum")
"""Operations of softmaxes, losses and normalizations, including local response normalization."""


def model_of(name: str, dtype: str) -> Any:
    made = SMALL[name][0]
    if isinstance(made, str):
        return ModelSpec.parse(made).replace(dtype=dtype, param_dtype="float32").build(num_classes=CLASSES)
    model = made(CLASSES)
    return model.clone(layers=dataclasses.replace(model.layers, dtype=dtype))


@pytest.mark.exhaustive_cases("*-float16")
@pytest.mark.parametrize("dtype", slow_except(["bfloat16", "float16"], "bfloat16"))
@pytest.mark.parametrize("name", slow_except(SMALL, "lenet5", "alexnet", "cifar_resnet", "vit"))
def test_half_precision_models_multiply_in_half_and_normalize_in_float32(name: str, dtype: str) -> None:
    side = SMALL[name][1]
    outputs, forward, norms = trace_forward(model_of(name, dtype), (side, side, 1))
    inputs = {
        str(v.aval.dtype)
        for eqn, _ in equations(forward)
        if eqn.primitive.name in MATMULS_AND_CONVS
        for v in eqn.invars
    }
    assert inputs == {dtype}
    assert set(normalization_dtypes(forward, norms)) == ({"float32"} if norms else set())
    heads = (outputs.logits, *outputs.auxiliary) if isinstance(outputs, Outputs) else (outputs,)
    assert {str(x.dtype) for x in heads} == {"float32"}
    soft = {
        (eqn.primitive.name, stack)
        for eqn, stack in equations(forward)
        if eqn.primitive.name in SOFT and eqn.outvars[0].aval.ndim > 1 and str(eqn.outvars[0].aval.dtype) == dtype
    }
    assert not [(kind, stack) for kind, stack in soft if not is_known(kind, stack)]


def is_known(kind: str, stack: str) -> bool:
    """Tell whether half precision is allowed: the exponential in a GELU, and sums of average pooling."""
    gelu = kind == "exp" and "attention" not in stack and "ViT" in stack
    return gelu or (kind == "reduce_window_sum" and "auxiliary" in stack)


@pytest.mark.slow
def test_half_precision_models_keep_parameters_and_statistics_in_float32() -> None:
    for name in ("cifar_resnet", "vit", "lenet5", "googlenet"):
        side = SMALL[name][1]
        model = model_of(name, "bfloat16")
        images = jax.ShapeDtypeStruct((2, side, side, 1), "float32")
        variables = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, train=False), images)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {"float32"}, name
