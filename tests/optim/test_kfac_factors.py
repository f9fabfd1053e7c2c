"""K-FAC factors against Fisher matrices summed by brute force, and against patches extracted by a loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxtrain.optim.kfac_factors import Factors, kronecker_factors


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def draw_params(model: nn.Module, x: np.ndarray, scale: float = 0.7) -> Any:
    """Parameters in float64, biases too, by shape alone."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(x.shape, jnp.float32))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(scale * rng.normal(size=s.shape)), shapes)


def factors_of(model: nn.Module, params: Any, x: np.ndarray, **options: Any) -> dict[str, Factors]:
    """Return the factors in float64; call it under `jax.enable_x64`."""

    def compute(p: Any) -> dict[str, Factors]:
        return kronecker_factors(lambda q: model.apply({"params": q}, jnp.asarray(x)), p, jax.random.key(0), **options)

    return jax.jit(compute)(params)


def close(a: Any, b: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


class Nested(nn.Module):
    """Layers at three depths; `outer/inner/deep` has no bias."""

    class Outer(nn.Module):
        class Inner(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                return jnp.tanh(nn.Dense(3, use_bias=False, name="deep")(x))

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.tanh(nn.Dense(2, name="middle")(self.Inner(name="inner")(x)))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(4, name="logits")(self.Outer(name="outer")(x))


class OneConv(nn.Module):
    """softmax(mean over positions of tanh(conv(x)) @ W + b)."""

    options: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jnp.tanh(nn.Conv(3, (3, 2), name="conv", **self.options)(x))
        return nn.Dense(4, name="logits")(hidden.mean(axis=(1, 2)))


def exact_fisher(model: nn.Module, params: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return, by layer, the mean of sum_c p_c grad log p_c (grad log p_c)' over examples; the bias is the last row."""

    def log_p(p: Any, example: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(model.apply({"params": p}, example[None])[0])

    examples = jnp.asarray(x)
    p = np.exp(jax.vmap(log_p, (None, 0))(params, examples))
    jacobian = jax.jit(jax.vmap(jax.jacrev(log_p), (None, 0)))(params, examples)
    leaves = {jax.tree_util.keystr(k, simple=True, separator="/"): np.asarray(v) for k, v in leaves_of(jacobian)}
    blocks = {}
    for path, kernel in leaves.items():
        if path.endswith("kernel"):
            rows = kernel.reshape(*p.shape, -1, kernel.shape[-1])
            bias = leaves.get(path.removesuffix("kernel") + "bias")
            rows = rows if bias is None else np.concatenate([rows, bias[:, :, None]], axis=2)
            g = rows.reshape(*p.shape, -1)
            blocks[path.removesuffix("kernel").rstrip("/")] = np.einsum("nc,nci,ncj->ij", p, g, g) / len(p)
    return blocks


leaves_of = jax.tree_util.tree_leaves_with_path


def test_kronecker_product_equals_the_fisher_matrix_for_equal_logits():
    """Then the gradients with respect to the outputs do not depend on the inputs: the approximation is exact."""
    model, x = nn.Dense(3), normal(5, 4)
    with jax.enable_x64(True):
        params = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
        found = factors_of(model, params, x, fisher="exact")[""]
        close(np.kron(*found), exact_fisher(model, params, x)[""])


@pytest.mark.quick_cases("dense")
@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_kronecker_product_equals_the_fisher_matrix_of_one_example(kind: str):
    """The layer may have any depth; the convolution has one output position."""
    dense = kind == "dense"
    model, x = (Nested(), normal(1, 5)) if dense else (OneConv({"padding": "VALID"}), normal(1, 3, 2, 2))
    with jax.enable_x64(True):
        params = draw_params(model, x)
        found = factors_of(model, params, x, fisher="exact")
        expected = exact_fisher(model, params, x)
    assert (
        set(found) == set(expected) == ({"outer/inner/deep", "outer/middle", "logits"} if dense else {"conv", "logits"})
    )
    for name, factors in found.items():
        close(np.kron(*factors), expected[name])


def patches_by_hand(x: np.ndarray, size: Any, padding: Any, strides: Any, dilation: Any) -> np.ndarray:
    """f[N, positions, h * w * C]."""
    pads = []
    for length, k, s, d in zip(x.shape[1:3], size, strides, dilation, strict=True):
        if padding == "SAME":
            total = max((-(-length // s) - 1) * s + (k - 1) * d + 1 - length, 0)
            pads.append((total // 2, total - total // 2))
        else:
            pads.append((0, 0) if padding == "VALID" else padding[len(pads)])
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    patches = [
        x[:, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1]].reshape(len(x), -1)
        for top in range(0, x.shape[1] - reach[0] + 1, strides[0])
        for left in range(0, x.shape[2] - reach[1] + 1, strides[1])
    ]
    return np.stack(patches, axis=1)


CONVOLUTIONS: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any]]] = {
    "same": ({}, ("SAME", (1, 1), (1, 1))),
    "same, strides": ({"strides": 2}, ("SAME", (2, 2), (1, 1))),
    "valid, strides": ({"padding": "VALID", "strides": (2, 1)}, ("VALID", (2, 1), (1, 1))),
    "one pad": ({"padding": 1}, (((1, 1), (1, 1)), (1, 1), (1, 1))),
    "pads": ({"padding": ((2, 0), (1, 3))}, (((2, 0), (1, 3)), (1, 1), (1, 1))),
    "dilation, no bias": (
        {"padding": (1, 0), "kernel_dilation": 2, "use_bias": False},
        (((1, 1), (0, 0)), (1, 1), (2, 2)),
    ),
}


@pytest.mark.quick_cases("same", "one pad")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_factors_equal_those_of_its_patches(case: str):
    options, geometry = CONVOLUTIONS[case]
    model, x = OneConv(options), normal(3, 5, 4, 2)
    with jax.enable_x64(True):
        params = draw_params(model, x)
        found = factors_of(model, params, x, fisher="exact")
    p = jax.tree.map(np.asarray, params)
    rows = patches_by_hand(x, (3, 2), *geometry)
    hidden = np.tanh(rows @ p["conv"]["kernel"].reshape(-1, 3) + p["conv"].get("bias", 0))
    probabilities = softmax(hidden.mean(axis=1) @ p["logits"]["kernel"] + p["logits"]["bias"])
    examples, positions = hidden.shape[:2]
    if "bias" in p["conv"]:
        rows = np.concatenate([rows, np.ones((examples, positions, 1))], axis=-1)
    inputs = sum(np.outer(rows[n, t], rows[n, t]) for n in range(examples) for t in range(positions)) / examples
    outputs = np.zeros((3, 3))
    for n in range(examples):
        for c in range(4):
            error = probabilities[n] - np.eye(4)[c]
            for t in range(positions):
                g = p["logits"]["kernel"] @ error / positions * (1 - hidden[n, t] ** 2)
                outputs += probabilities[n, c] * np.outer(g, g) / (examples * positions)
    close(found["conv"].inputs, inputs)
    close(found["conv"].outputs, outputs)


class Pointwise(nn.Module):
    """The same function with a dense layer at each position, on flattened positions, or as a convolution of size 1."""

    kind: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, h, w, c = x.shape
        if self.kind == "convolution":
            hidden = nn.Conv(3, (1, 1), name="layer")(x)
        else:
            rows = x if self.kind == "dense" else x.reshape(-1, c)
            hidden = nn.Dense(3, name="layer")(rows).reshape(n, h, w, 3)
        return nn.Dense(4, name="logits")(jnp.tanh(hidden).mean(axis=(1, 2)))


@pytest.mark.quick_cases("1")
@pytest.mark.parametrize("side", [1, 2])
def test_factors_of_a_1x1_convolution_equal_those_of_a_dense_layer(side: int):
    x = normal(3, side, side, 2)
    with jax.enable_x64(True):
        params = draw_params(Pointwise("dense"), x)
        dense = factors_of(Pointwise("dense"), params, x, fisher="exact")
        rows = factors_of(Pointwise("rows"), params, x, fisher="exact")
        as_convolution = {**params, "layer": {**params["layer"], "kernel": params["layer"]["kernel"][None, None]}}
        convolution = factors_of(Pointwise("convolution"), as_convolution, x, fisher="exact")
    jax.tree.map(close, rows, dense)
    jax.tree.map(close, convolution, dense)


@pytest.mark.slow
def test_sampled_labels_give_the_exact_factors_on_average():
    model, x = Nested(), normal(6, 5)
    with jax.enable_x64(True):
        params = draw_params(model, x, scale=1.5)
        exact = factors_of(model, params, x, fisher="exact")

        def draw(key: jax.Array) -> dict[str, Factors]:
            return kronecker_factors(lambda q: model.apply({"params": q}, jnp.asarray(x)), params, key)

        draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
        draws, exact = jax.tree.map(np.asarray, (draws, exact))
    for name, of_layer in draws.items():
        close(of_layer.inputs[0], exact[name].inputs)
        deviation = of_layer.outputs.std(axis=0)
        error = np.abs(of_layer.outputs.mean(axis=0) - exact[name].outputs)
        assert deviation.max() > 0.02 * np.abs(exact[name].outputs).max()  # a draw is not the expectation
        assert np.all(error < 5 * deviation / np.sqrt(4000) + 1e-12)


def test_empirical_fisher_uses_the_labels_of_the_data():
    model, x, labels = nn.Dense(3), normal(5, 4), np.array([0, 2, 1, 1, 0])
    with jax.enable_x64(True):
        params = draw_params(model, x)

        def mean_loss(logits: jax.Array) -> jax.Array:
            return -jax.nn.log_softmax(logits)[jnp.arange(5), labels].mean()

        found = factors_of(model, params, x, fisher="empirical", output_loss=mean_loss)[""]
    p = jax.tree.map(np.asarray, params)
    g = softmax(x @ p["kernel"] + p["bias"]) - np.eye(3)[labels]
    close(found.outputs, g.T @ g / 5)
    with pytest.raises(ValueError, match="output_loss=logits -> loss"):
        factors_of(model, {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}, np.float32(x), fisher="empirical")


@pytest.mark.slow
def test_factors_of_a_bfloat16_model_are_float32():
    x = np.float32(normal(4, 5, 4, 2))
    model, half = (OneConv({"dtype": dtype}) for dtype in (jnp.float32, jnp.bfloat16))
    params = jax.tree.map(lambda p: p.astype(jnp.float32), draw_params(model, x))

    def compute(m: nn.Module) -> Any:
        def outputs(p: Any) -> jax.Array:
            with jax.numpy_dtype_promotion("standard"):
                return m.apply({"params": p}, jnp.asarray(x))

        return jax.jit(lambda p: kronecker_factors(outputs, p, jax.random.key(0), fisher="exact"))(params)["conv"]

    full, rounded = compute(model), compute(half)
    for a, b in zip(full, rounded, strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.02 * float(jnp.abs(a).max()))
    assert float(jnp.abs(full.outputs - rounded.outputs).max()) > 0


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = nn.Dense(4, name="shared")
        return layer(layer(x))


class Remat(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3)(nn.remat(nn.Dense)(4, name="again")(x))


@pytest.mark.parametrize(
    ("model", "says"), [(Twice(), "'shared', which is called twice"), (Remat(), "'again'.*nn.remat")]
)
def test_kronecker_factors_refuse_shared_and_rematerialized_layers(model: nn.Module, says: str):
    x = np.float32(normal(2, 4))
    params = draw_params(model, x)
    with pytest.raises(ValueError, match=says):
        factors_of(model, params, x)


class Scaled(nn.Dense):
    """A subclass of Dense that uses its kernel differently."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return 2 * super().__call__(inputs)


class Others(nn.Module):
    """Every kind of layer without factors, and a dense layer that gets its inputs by keyword."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(4, (3, 3), feature_group_count=2, name="groups")(x)
        x = nn.Conv(2, (3, 3), padding="CIRCULAR", name="circular")(x)
        x = nn.ConvTranspose(2, (2, 2), name="transposed")(x)
        x = nn.LayerNorm(name="norm")(x)
        x = nn.Conv(2, 3, name="line")(x.reshape(x.shape[0], -1, 2))
        x = Scaled(2, name="scaled")(x.reshape(x.shape[0], -1))
        return nn.Dense(3, name="plain")(inputs=x)


def test_kronecker_factors_skip_unsupported_layers():
    x = np.float32(normal(2, 4, 4, 2))

    def compute(p: Any) -> dict[str, Factors]:
        return kronecker_factors(lambda q: Others().apply({"params": q}, jnp.asarray(x)), p, jax.random.key(0))

    assert set(jax.eval_shape(compute, draw_params(Others(), x))) == {"plain"}
    assert kronecker_factors(lambda p: p["w"] * jnp.ones((2, 3)), {"w": jnp.ones(())}, jax.random.key(0)) == {}
