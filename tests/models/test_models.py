"""Models against layer arithmetic and a hand-written torch net; `analysis.cost` against the same arithmetic.

The cost of a program is tested here since both use the same counts: `reference` of the model registry.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrain import models
from jaxtrain.analysis.cost import flops
from jaxtrain.models import MODELS
from jaxtrain.models.lenet import lenet5
from jaxtrain.models.perceptron import mlp
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.param_rules import path_name
from jaxtrain.random import MODEL_STREAMS

Arrays = dict[str, dict[str, np.ndarray]]


def published(name: str, channels: int | None = None) -> tuple[Any, tuple[int, int, int]]:
    """Return a registered model as its reference describes it, and the shape of its input."""
    facts = MODELS[name].reference
    h, w, c = facts["input"]
    return MODELS.create(name, num_classes=facts["num_classes"]), (h, w, channels or c)


def abstract(model: Any, shape: tuple[int, int, int], batch: int = 1) -> tuple[Any, Any, Any]:
    """Return the shapes of the variables, of the outputs of all modules, and of the logits."""
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    logits, seen = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False, capture_intermediates=True), variables, images
    )
    return variables, seen["intermediates"], logits


def count_costs(model: Any, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Count parameters and multiply-adds: each kernel is applied once at each position of its layer's output."""
    variables, outputs, _ = abstract(model, shape)
    parameters = multiply_adds = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        parameters += math.prod(leaf.shape)
        *modules, kind = path_name(path).split("/")
        if kind == "kernel":
            node = outputs
            for module in modules:
                node = node[module]
            multiply_adds += math.prod(leaf.shape) * math.prod(node["__call__"][0].shape[1:-1])
    return parameters, multiply_adds


def dense(inputs: int, outputs: int) -> tuple[int, int]:
    return inputs * outputs + outputs, inputs * outputs


def conv(side: int, inputs: int, outputs: int, kernel: int = 5) -> tuple[int, int]:
    taps = kernel * kernel * inputs * outputs
    return taps + outputs, taps * side * side


# Layer by layer with explicit sizes; no formula of the package is used.
BY_HAND = {
    ("linear", 1): [dense(784, 10)],
    ("mlp", 1): [dense(784, 512), dense(512, 512), dense(512, 10)],
    ("lenet5", 1): [conv(28, 1, 6), conv(10, 6, 16), dense(400, 120), dense(120, 84), dense(84, 10)],
    ("lenet5", 3): [conv(28, 3, 6), conv(10, 6, 16), dense(400, 120), dense(120, 84), dense(84, 10)],
}


BASIC = ["linear", "mlp", "lenet5"]


def test_every_registered_model_is_an_attribute_of_the_package():
    """`from jaxtrain.models import mlp` gives the factory, also after the module that holds it was imported."""
    for name in MODELS.names():
        assert getattr(models, name) is MODELS[name].load(), name


@pytest.mark.parametrize("name", BASIC)
def test_model_reference_counts_equal_the_model(name: str):
    facts = MODELS[name].reference
    assert count_costs(*published(name)) == (facts["parameters"], facts["multiply_adds"])


@pytest.mark.parametrize(("name", "channels"), BY_HAND)
def test_model_counts_equal_layer_arithmetic(name: str, channels: int):
    parameters, multiply_adds = (sum(column) for column in zip(*BY_HAND[name, channels], strict=True))
    assert count_costs(*published(name, channels)) == (parameters, multiply_adds)
    if name == "lenet5":  # published numbers of the simplification, grey and color
        assert (parameters, multiply_adds) == {1: (61_706, 416_520), 3: (62_006, 651_720)}[channels]


@pytest.mark.quick_cases("linear", "mlp")
@pytest.mark.parametrize("name", BASIC)
def test_model_returns_float32_logits_and_trains_every_parameter(name: str):
    """Any batch size, float32 logits, one compile, no random stream in evaluation, a gradient for every parameter."""
    model, shape = published(name)
    for batch in (1, 3):
        logits = abstract(model, shape, batch)[2]
        assert (logits.shape, logits.dtype) == ((batch, MODELS[name].reference["num_classes"]), jnp.float32)
    images = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    params = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))()["params"]

    def objective(params: Any, images: Any, seed: int) -> Any:
        rngs = {stream: jax.random.fold_in(jax.random.key(seed), i) for i, stream in enumerate(MODEL_STREAMS)}
        logits = model.apply({"params": params}, images, train=True, rngs=rngs)
        return cross_entropy()(logits, jnp.arange(4) % logits.shape[-1]).mean()

    gradient = jax.jit(jax.grad(objective))
    grads = gradient(params, images, 0)
    gradient(params, images + 1, 1)
    assert gradient._cache_size() == 1
    assert jax.tree.map(lambda x: (x.shape, x.dtype), grads) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    dead = [path_name(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.any(g) or np.isnan(g).any()]
    assert not dead


def draw_params(model: Any, shape: tuple[int, int, int]) -> Arrays:
    """Random parameters, biases too (they are 0 after initialization, which would hide a mistake), of sensible size."""
    rng = np.random.default_rng(1)
    params = abstract(model, shape)[0]["params"]
    return jax.tree.map(
        lambda s: (rng.normal(size=s.shape) / math.sqrt(max(math.prod(s.shape[:-1]), 1))).astype(np.float32), params
    )


def to_torch_layout(params: Arrays, height: int, width: int) -> Arrays:
    """In torch's layout: HWIO to OIHW, (in, out) to (out, in), and the first dense layer's inputs, flattened as
    (height, width, channel), in the order (channel, height, width) that a torch net flattens to.
    """
    result = {}
    for name, leaves in params.items():
        kernel = np.asarray(leaves["kernel"])
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif name == "fc1":
            outputs = kernel.shape[1]
            kernel = kernel.reshape(height, width, -1, outputs).transpose(3, 2, 0, 1).reshape(outputs, -1)
        else:
            kernel = kernel.T
        result[name] = {"weight": np.ascontiguousarray(kernel), "bias": np.array(leaves["bias"])}
    return result


def torch_lenet(torch: Any, p: Any, x: Any, activation: str, pooling: str) -> Any:
    f = torch.nn.functional
    act = getattr(torch, activation)
    down = f.max_pool2d if pooling == "max" else f.avg_pool2d
    for name in ("conv1", "conv2"):
        x = down(act(f.conv2d(x, p[name]["weight"], p[name]["bias"])), 2)
    x = x.flatten(1)
    for name in ("fc1", "fc2"):
        x = act(f.linear(x, p[name]["weight"], p[name]["bias"]))
    return f.linear(x, p["logits"]["weight"], p["logits"]["bias"])


def torch_mlp(torch: Any, p: Any, x: Any, activation: str) -> Any:
    x = x.flatten(1)
    for name in (n for n in p if n != "logits"):
        x = getattr(torch, activation)(torch.nn.functional.linear(x, p[name]["weight"], p[name]["bias"]))
    return torch.nn.functional.linear(x, p["logits"]["weight"], p["logits"]["bias"])


@pytest.mark.quick_cases("lenet5", "mlp")
@pytest.mark.parametrize(
    ("model", "shape", "flattened", "net"),
    [
        (lenet5(num_classes=10), (32, 32, 1), (5, 5), lambda *a: torch_lenet(*a, "relu", "max")),
        (
            lenet5(num_classes=7, activation="tanh", pooling="average"),
            (34, 28, 3),
            (5, 4),
            lambda *a: torch_lenet(*a, "tanh", "average"),
        ),
        (mlp(num_classes=5, widths=(16, 12)), (4, 3, 2), (4, 3), lambda *a: torch_mlp(*a, "relu")),
        (
            mlp(num_classes=5, widths=(16,), activation="sigmoid"),
            (4, 3, 2),
            (4, 3),
            lambda *a: torch_mlp(*a, "sigmoid"),
        ),
    ],
    ids=["lenet5", "lenet5-as-published", "mlp", "mlp-sigmoid"],
)
def test_logits_and_gradients_equal_torch(
    model: Any, shape: tuple[int, int, int], flattened: tuple[int, int], net: Callable[..., Any]
):
    torch = pytest.importorskip("torch", reason="the oracle is a hand-written torch net")
    params = draw_params(model, shape)
    rng = np.random.default_rng(2)
    images = rng.normal(size=(3, *shape)).astype(np.float32)
    cotangent = rng.normal(size=(3, model.num_classes)).astype(np.float32)

    def run(params: Any, images: Any) -> Any:
        logits, back = jax.vjp(lambda p, x: model.apply({"params": p}, x, train=False), params, images)
        return logits, *back(jnp.asarray(cotangent))

    logits, grads, image_grads = jax.jit(run)(params, images)
    theirs = jax.tree.map(lambda a: torch.tensor(a, requires_grad=True), to_torch_layout(params, *flattened))
    x = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    expected = net(torch, theirs, x)
    expected.backward(torch.tensor(cotangent))

    def close(actual: Any, wanted: Any) -> None:
        # float32 sums of up to 400 products in another order: 1e-5 of the largest value
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())

    close(logits, expected.detach().numpy())
    close(np.asarray(image_grads).transpose(0, 3, 1, 2), x.grad.numpy())
    jax.tree.map(lambda g, t: close(g, t.grad.numpy()), to_torch_layout(grads, *flattened), theirs)


@pytest.mark.slow
def test_mlp_dropout_is_inverted_and_uses_the_dropout_stream():
    rate, shape = 0.25, (4, 4, 1)
    model = mlp(num_classes=3, widths=(2000,), activation="sigmoid", dropout_rate=rate)
    params = draw_params(model, shape)
    images = np.random.default_rng(3).normal(size=(8, *shape)).astype(np.float32)

    def hidden(train: bool, **rngs: Any) -> tuple[np.ndarray, np.ndarray]:
        apply = jax.jit(
            lambda: model.apply({"params": params}, images, train=train, rngs=rngs, capture_intermediates=True)
        )
        logits, seen = apply()
        return np.asarray(logits), np.asarray(seen["intermediates"]["Dropout_0"]["__call__"][0])

    logits, plain = hidden(train=False)
    first, dropped = hidden(train=True, dropout=jax.random.key(0))
    kept = dropped != 0  # a sigmoid is never 0
    np.testing.assert_allclose(dropped[kept], plain[kept] / (1 - rate), rtol=1e-6)
    # 16,000 draws: six standard deviations, a chance of 2e-9 for a right one
    assert abs(kept.mean() - (1 - rate)) < 6 * math.sqrt(rate * (1 - rate) / kept.size)
    np.testing.assert_array_equal(first, hidden(train=True, dropout=jax.random.key(0), params=jax.random.key(7))[0])
    assert not np.array_equal(first, hidden(train=True, dropout=jax.random.key(1))[0])
    assert not np.array_equal(first, logits)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        hidden(train=True, augment=jax.random.key(0))


def test_training_without_dropout_needs_no_random_stream():
    model = mlp(num_classes=3, widths=(5,))
    params, images = draw_params(model, (2, 2, 1)), np.ones((2, 2, 2, 1), np.float32)
    logits = [model.apply({"params": params}, images, train=train) for train in (False, True)]
    np.testing.assert_array_equal(*logits)


def test_lenet5_refuses_small_images_and_suggests_resizing():
    with pytest.raises(ValueError, match=r"at least 16x16.*these are 28x15.*data\.resize"):
        abstract(lenet5(num_classes=2), (28, 15, 1))
    assert abstract(lenet5(num_classes=2), (16, 16, 1))[2].shape == (1, 2)


def operations(f: Callable[..., Any], *args: Any) -> int:
    return flops(jax.make_jaxpr(f)(*args).jaxpr)


@pytest.mark.parametrize("name", BASIC)
def test_forward_flops_are_twice_the_multiply_adds(name: str):
    model, shape = published(name)
    variables = abstract(model, shape)[0]
    images = jnp.zeros((3, *shape))
    forward = operations(lambda v, x: model.apply(v, x, train=False), variables, images)
    assert forward == 3 * 2 * MODELS[name].reference["multiply_adds"]


def forward_and_backward(f: Callable[..., Any], *args: Any) -> tuple[int, int, int]:
    """Return the operations of the forward pass, and of the gradients of both arguments without the forward pass."""
    forward = operations(f, *args)
    first, second = (operations(jax.grad(lambda *a: f(*a).sum(), i), *args) - forward for i in (0, 1))
    return forward, first, second


def test_flops_counts_a_dense_layer_and_its_gradients():
    once = 2 * 5 * 7 * 3
    assert forward_and_backward(jnp.dot, jnp.ones((5, 7)), jnp.ones((7, 3))) == (once, once, once)


@pytest.mark.parametrize(
    ("side", "stride", "padding", "out", "groups"),
    [(8, 1, 1, 8, 1), (8, 2, 1, 4, 1), (9, 2, 0, 4, 1), (8, 1, 0, 6, 1), (8, 1, 1, 8, 2)],
)
def test_flops_counts_a_convolution_and_its_gradients(side: int, stride: int, padding: int, out: int, groups: int):
    """3x3, 4 to 6 channels. The weight gradient has the forward pass's products; the input gradient has one for each
    input pixel and tap, those on padding included, less the zeros that a stride inserts.
    """
    taps, batch = 3 * 3 * (4 // groups) * 6, 5

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = [(padding, padding)] * 2
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=names, feature_group_count=groups
        )

    counts = forward_and_backward(convolve, jnp.ones((batch, side, side, 4)), jnp.ones((3, 3, 4 // groups, 6)))
    forward = 2 * batch * out * out * taps
    assert counts == (forward, 2 * batch * side * side * taps // stride**2, forward)


def test_flops_counts_loop_iterations_and_the_longer_branch():
    x = jnp.ones((4, 4))
    loop = operations(lambda a: jax.lax.scan(lambda c, _: (c @ a, None), a, length=7)[0], x)
    assert loop == 7 * 2 * 4**3
    either = operations(lambda a: jax.lax.cond(a[0, 0] > 0, lambda b: b @ b @ b, lambda b: b @ b, a), x)
    assert either == 2 * 2 * 4**3
    assert operations(lambda a: jax.jit(jnp.dot)(a, a), x) == 2 * 4**3
