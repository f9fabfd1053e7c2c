"""Convolutions by native kernels on a CPU, against `jax.lax.conv_general_dilated`."""

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxtrain.analysis.cost import flops
from jaxtrain.models.lenet import lenet5
from jaxtrain.xla_cpu.convolutions import conv_general_dilated, kernel_selection, native

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
needs_kernels = pytest.mark.skipif(not any(map(shutil.which, native.COMPILERS)), reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def _also_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_selection, "SMALLEST", 0)


@pytest.fixture
def no_library_yet() -> Iterator[None]:
    native.load_kernels.cache_clear()
    yield
    native.load_kernels.cache_clear()


def arrays(image: tuple[int, ...], kernel: tuple[int, ...], dtype: str = "float32") -> tuple[jax.Array, jax.Array]:
    draw = np.random.RandomState(0)
    return jnp.asarray(draw.randn(*image), dtype), jnp.asarray(draw.randn(*kernel), dtype)


def function(conv, stride, padding, **options):
    """Return a function whose derivatives of every order depend on both operands."""

    def called(x, w):
        strides = stride if isinstance(stride, tuple) else (stride, stride)
        return jnp.sin(0.1 * conv(x, w, strides, padding, dimension_numbers=DIMENSIONS, **options))

    return called


def everything(conv, stride, padding, **options):
    """Return a function with value, gradients, a forward derivative, and a forward derivative of the gradients."""
    call = function(conv, stride, padding, **options)

    def total(x, w):
        return call(x, w).sum()

    def all_of_them(x, w):
        gradients = jax.grad(total, (0, 1))
        tangents = (jnp.cos(x), jnp.cos(w))
        forward = jax.jvp(call, (x, w), tangents)
        return *forward, *jax.tree.leaves(jax.jvp(gradients, (x, w), tangents))

    return all_of_them


def gradients(conv, stride, padding):
    call = function(conv, stride, padding)
    return jax.grad(lambda x, w: call(x, w).sum(), (0, 1))


def assert_alike(stride, padding, x, w, tolerance: float = 1e-5, all_of_them=everything) -> None:
    ours, theirs = (jax.jit(all_of_them(c, stride, padding))(x, w) for c in (conv_general_dilated, _lax))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert jnp.abs(a - b).max() <= tolerance * jnp.abs(b).max()


def _lax(*args, **kwargs):
    return lax.conv_general_dilated(*args, **kwargs)


def lowered(call, *operands, **settings) -> tuple[int, int]:
    """Return the numbers of native calls and of XLA convolutions in the program."""
    text = jax.jit(call).trace(*operands).lower(**settings).as_text()
    return text.count("@jaxtrain_"), text.count("stablehlo.convolution")


@pytest.mark.quick_cases("image0-kernel0-1-VALID", "image3-kernel3-2-padding3", "image7-kernel7-2-SAME")
@needs_kernels
@pytest.mark.parametrize(
    ("image", "kernel", "stride", "padding"),
    [
        ((3, 12, 12, 1), (5, 5, 1, 6), 1, "VALID"),  # LeNet-5
        ((2, 12, 11, 6), (5, 5, 6, 16), 1, "VALID"),
        ((5, 8, 33, 16), (3, 3, 16, 16), 1, ((1, 1), (1, 1))),  # ResNet-20
        ((2, 9, 8, 16), (3, 3, 16, 32), 2, ((1, 1), (1, 1))),
        ((3, 7, 7, 20), (3, 3, 20, 70), 1, ((0, 2), (2, 1))),  # channels that fill no vector, three groups of outputs
        ((1, 13, 14, 3), (7, 7, 3, 40), 2, ((3, 3), (3, 3))),  # the stem of a ResNet; one image for all threads
        ((2, 9, 10, 20), (1, 1, 20, 24), 2, "VALID"),
        ((2, 6, 6, 3), (2, 4, 3, 5), 2, "SAME"),
    ],
)
def test_native_convolution_and_its_derivatives_equal_lax(image, kernel, stride, padding) -> None:
    assert_alike(stride, padding, *arrays(image, kernel))


@pytest.mark.slow
@needs_kernels
@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.data())
def test_native_convolution_gradients_equal_lax_for_random_shapes(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(*[st.integers(1, 5)] * 2))
    pads = data.draw(st.tuples(*[st.tuples(*[st.integers(0, 3)] * 2)] * 2))
    sides = data.draw(st.tuples(*[st.integers(6, 19)] * 2))
    channels = data.draw(st.tuples(*[st.sampled_from([1, 3, 4, 5, 16, 17, 33])] * 2))
    stride = data.draw(st.sampled_from([1, 2, 3, (1, 2)]))
    x, w = arrays((data.draw(st.integers(1, 5)), *sides, channels[0]), (*kernel, *channels))
    assert_alike(stride, pads, x, w, all_of_them=gradients)


@needs_kernels
def test_derivatives_of_a_convolution_use_only_native_kernels() -> None:
    x, w = arrays((2, 8, 8, 4), (3, 3, 4, 5))
    assert lowered(function(conv_general_dilated, 1, "SAME"), x, w) == (1, 0)
    calls, others = lowered(everything(conv_general_dilated, 2, "SAME"), x, w)
    assert calls >= 8
    assert others == 0


@pytest.mark.slow
@needs_kernels
def test_native_kernel_gradient_over_many_sums_is_accurate() -> None:
    x, w = arrays((64, 32, 32, 3), (3, 3, 3, 16))
    x = x + 1
    call = function(conv_general_dilated, 1, "SAME")
    found = jax.jit(jax.grad(lambda w: (call(x, w) * 10).sum()))(w)
    with jax.enable_x64(True):
        exact = jax.jit(jax.grad(lambda w: (function(_lax, 1, "SAME")(x.astype("float64"), w) * 10).sum()))(
            w.astype("float64")
        )
        assert jnp.abs(found.astype("float64") - exact).max() <= 1e-5 * jnp.abs(exact).max()


@needs_kernels
def test_native_convolution_is_bitwise_deterministic() -> None:
    x, w = arrays((33, 16, 16, 16), (3, 3, 16, 16))
    run = jax.jit(jax.grad(lambda x, w: function(conv_general_dilated, 1, "SAME")(x, w).sum(), (0, 1)))
    first = run(x, w)
    for _ in range(10):
        jax.tree.map(np.testing.assert_array_equal, run(x, w), first)


@needs_kernels
def test_native_convolution_under_vmap_equals_lax() -> None:
    x, w = arrays((3, 2, 6, 6, 4), (3, 3, 3, 4, 5))
    for axes in ((0, None), (0, 0)):
        operands = (x if axes[0] == 0 else x[0], w if axes[1] == 0 else w[0])
        ours, theirs = (
            jax.jit(jax.vmap(jax.grad(lambda x, w, c=c: function(c, 1, "SAME")(x, w).sum(), (0, 1)), axes))(*operands)
            for c in (conv_general_dilated, _lax)
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


@needs_kernels
def test_native_convolution_under_scan_and_remat_equals_lax() -> None:
    x, w = arrays((4, 2, 6, 6, 4), (3, 3, 4, 4))

    def total(conv, w):
        def body(total, x):
            return total + function(conv, 1, "SAME")(x, w).sum(), None

        return lax.scan(jax.checkpoint(body), jnp.float32(0), x)[0]

    ours, theirs = (jax.jit(jax.grad(lambda w, c=c: total(c, w)))(w) for c in (conv_general_dilated, _lax))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * float(jnp.abs(theirs).max()))
    assert lowered(jax.grad(lambda w: total(conv_general_dilated, w)), w)[1] == 0


@pytest.mark.parametrize(
    ("stride", "dtype", "options"),
    [
        (1, "float32", {"feature_group_count": 2}),
        (1, "float32", {"rhs_dilation": (2, 2)}),
        (1, "float32", {"lhs_dilation": (2, 1)}),
        ((1, 2), "float32", {}),
        (3, "float32", {}),
        (1, "bfloat16", {}),
        (1, "float16", {}),
    ],
)
def test_unsupported_convolutions_use_xla(stride, dtype, options) -> None:
    x, w = arrays((2, 9, 9, 4), (3, 3, 4 // options.get("feature_group_count", 1), 6), dtype)
    calls = [function(c, stride, ((0, 0), (0, 0)), **options) for c in (conv_general_dilated, _lax)]
    assert lowered(calls[0], x, w) == (0, 1)
    np.testing.assert_array_equal(*(jax.jit(call)(x, w) for call in calls))


def test_small_convolutions_use_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    x, w = arrays((2, 9, 9, 4), (3, 3, 4, 6))
    assert lowered(function(conv_general_dilated, 1, "VALID"), x, w) == (0, 1)


def test_native_convolution_in_float64_equals_lax() -> None:
    with jax.enable_x64(True):
        x, w = arrays((2, 5, 5, 2), (3, 3, 2, 2), "float64")
        assert_alike(1, "SAME", x, w, 1e-14)


def test_native_convolution_without_jit_equals_lax() -> None:
    x, w = arrays((2, 5, 5, 2), (3, 3, 2, 2))
    call = [
        lambda x, w, c=c: c(x, w, (1, 1), "SAME", dimension_numbers=DIMENSIONS) for c in (conv_general_dilated, _lax)
    ]
    np.testing.assert_allclose(call[0](x, w), call[1](x, w), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharded_convolutions_use_xla(kind) -> None:
    x, w = arrays((16, 6, 6, 4), (3, 3, 4, 5))
    expected = jax.jit(everything(_lax, 1, "SAME"))(x, w)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(x, NamedSharding(mesh, P("data")))
        w = jax.device_put(w, NamedSharding(mesh, P()))
        assert lowered(everything(conv_general_dilated, 1, "SAME"), x, w)[0] == 0
        found = jax.jit(everything(conv_general_dilated, 1, "SAME"))(x, w)
    assert found[0].sharding.spec[0] == "data"
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_convolutions_on_other_platforms_use_xla(platform: str) -> None:
    x, w = arrays((2, 6, 6, 4), (3, 3, 4, 5))
    ours, theirs = (
        lowered(everything(c, 1, "SAME"), x, w, lowering_platforms=(platform,)) for c in (conv_general_dilated, _lax)
    )
    assert ours == theirs
    assert ours[0] == 0


def test_exported_program_contains_no_native_kernels() -> None:
    x, w = arrays((2, 6, 6, 4), (3, 3, 4, 5))
    exported = jax.export.export(jax.jit(function(conv_general_dilated, 1, "SAME")), platforms=("cpu", "cuda"))(x, w)
    assert "@jaxtrain_" not in exported.mlir_module()


def test_jaxpr_of_a_native_convolution_has_the_flops_of_lax() -> None:
    x, w = arrays((2, 6, 6, 4), (3, 3, 4, 5))
    ours, theirs = (jax.make_jaxpr(everything(c, 2, "SAME"))(x, w) for c in (conv_general_dilated, _lax))
    assert flops(ours.jaxpr) == flops(theirs.jaxpr) > 0
    names = [e.primitive.name for e in jax.make_jaxpr(function(conv_general_dilated, 1, "SAME"))(x, w).jaxpr.eqns]
    assert names.count("conv_general_dilated") == 1


@needs_kernels
def test_lenet5_convolutions_use_native_kernels() -> None:
    model, images = lenet5(num_classes=10), jnp.zeros((64, 28, 28, 1))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    step = jax.grad(lambda v, x: model.apply(v, x, train=True).sum())
    assert lowered(step, variables, images) == (5, 0)  # two forward, two kernels, one image


def test_environment_switch_turns_native_convolutions_off(
    monkeypatch: pytest.MonkeyPatch, no_library_yet: None
) -> None:
    monkeypatch.setenv(native.SWITCH, "off")
    x, w = arrays((2, 6, 6, 4), (3, 3, 4, 5))
    assert lowered(function(conv_general_dilated, 1, "SAME"), x, w) == (0, 1)


def test_missing_compiler_is_logged_and_xla_is_used(
    monkeypatch: pytest.MonkeyPatch, no_library_yet: None, caplog
) -> None:
    monkeypatch.setattr(native, "COMPILERS", ("no-such-compiler",))
    with caplog.at_level(logging.INFO):
        assert native.load_kernels() is None
    assert "no C++ compiler" in caplog.text


def test_failing_compiler_is_logged_and_xla_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_library_yet: None, caplog
) -> None:
    broken = tmp_path / "compiler"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(native, "COMPILERS", (str(broken),))
    monkeypatch.setenv(native.SWITCH, str(tmp_path / "kernels"))
    assert native.load_kernels() is None
    assert "it is broken" in caplog.text
    x, w = arrays((2, 6, 6, 4), (3, 3, 4, 5))
    assert lowered(function(conv_general_dilated, 1, "SAME"), x, w) == (0, 1)


def test_kernel_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(native.SWITCH)
    assert native.kernel_directory() == tmp_path / "jaxtrain" / "kernels"
    monkeypatch.setenv(native.SWITCH, str(tmp_path))
    assert native.kernel_directory() == tmp_path
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.kernel_directory() is None


@pytest.mark.slow
@needs_kernels
def test_native_kernels_compile_without_avx512(tmp_path: Path) -> None:
    """The kernels also compile for vectors of eight."""
    if native.platform.machine() != "x86_64":
        pytest.skip("not an x86")
    compiler = next(filter(None, map(shutil.which, native.COMPILERS)))
    flags = [*native.FLAGS, "-mno-avx512f", "-fsyntax-only", f"-I{jax.ffi.include_dir()}"]
    subprocess.run([compiler, *flags, str(native.SOURCE)], check=True, capture_output=True)
