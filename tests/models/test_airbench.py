"""The speedrun net airbench94 against torch layers, and its recipe on a few images."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxtrain
from jaxtrain.config import Config, apply_overrides, load_config
from jaxtrain.data.splits import fit_normalization, load_splits
from jaxtrain.errors import ConfigError
from jaxtrain.models import MODELS
from jaxtrain.nn.init.patch_whitening import whiten_first_layer
from jaxtrain.training.initialization import initialize_run
from jaxtrain.training.plan import make_plan

IMAGES = np.random.RandomState(0).normal(size=(3, 32, 32, 3)).astype(np.float32)


def randomized(tree: Any) -> Any:
    rng = np.random.RandomState(1)
    return jax.tree.map(lambda x: rng.uniform(0.2, 1, x.shape).astype(np.float32) - 0.3 * (x.ndim > 1), tree)


@pytest.mark.slow
def test_airbench94_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    model = MODELS.create("airbench94", num_classes=5, widths=(6, 8, 8))
    shapes: Any = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    variables = randomized(shapes)
    params, stats = variables["params"], variables["batch_stats"]

    def tensor(x: Any) -> Any:
        return torch.from_numpy(np.asarray(x))

    def conv(x: Any, name: str) -> Any:
        kernel, bias = params[name]["kernel"], params[name].get("bias")
        pad = 1 if name != "whiten" else 0
        weight = tensor(kernel.transpose(3, 2, 0, 1).copy())
        return torch.nn.functional.conv2d(x, weight, None if bias is None else tensor(bias), padding=pad)

    def norm(x: Any, name: str) -> Any:
        kept, own = stats[name], params[name]
        numbers = [tensor(v) for v in (kept["mean"], kept["var"], own["scale"], own["bias"])]
        return torch.nn.functional.gelu(torch.nn.functional.batch_norm(x, *numbers, eps=1e-12))

    x = torch.nn.functional.gelu(conv(tensor(IMAGES.transpose(0, 3, 1, 2).copy()), "whiten"))
    for group in ("group1", "group2", "group3"):
        x = norm(torch.nn.functional.max_pool2d(conv(x, f"{group}_conv1"), 2), f"{group}_norm1")
        x = norm(conv(x, f"{group}_conv2"), f"{group}_norm2")
    x = torch.nn.functional.max_pool2d(x, 3).flatten(1)
    wanted = (x @ tensor(params["logits"]["kernel"])).numpy() / 9
    found = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, IMAGES)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def test_airbench94_refuses_small_images() -> None:
    model = MODELS.create("airbench94", num_classes=5)
    jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES[:, :25, :25], train=False))
    with pytest.raises(ValueError, match="at least 25x25"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES[:, :24, :24], train=False))


def small_recipe(*more: str) -> Config:
    """Return the recipe with one group of 8 channels on 96 images of 12x12, in 24 steps of 16 images."""
    data = "synthetic(height=12, width=12, channels=3, num_classes=4, train_examples=96, test_examples=24)"
    return apply_overrides(load_config("cifar10_speedrun"), [
        *("model.widths=[8]", "precision=float32", f"data.dataset={data}", "data.batch_size=16", "devices=1"),
        *("train_for=24 steps", "initialize.examples=50", "evaluation.tta=none", "evaluation.batch_size=24"),
        *("optimizer.learning_rate.peak=0.5", "data.augment=alternating_flip_lr", *more),
    ])  # fmt: skip


@pytest.mark.slow
def test_airbench94_run_starts_from_a_whitening_layer_and_keeps_it_frozen(tmp_path: Path) -> None:
    config = small_recipe()
    plan = make_plan(config)
    train = load_splits(plan.splits, ("train",), config.seed)["train"]
    normalization = fit_normalization(plan.splits, train)
    state = initialize_run(plan, normalization, train)
    seen = np.asarray(normalization.apply(jax.numpy.asarray(train.images[:50])))
    wanted = whiten_first_layer(plan.model, jax.random.key(0), seen)["params"]["whiten"]["kernel"]
    np.testing.assert_allclose(state.params["whiten"]["kernel"], wanted, rtol=1e-4, atol=1e-5)
    result = jaxtrain.fit(config, tmp_path / "run")
    assert result.state is not None
    kept, moved = (
        result.state.params,
        jax.tree.map(lambda a, b: bool((a != b).any()), state.params, result.state.params),
    )
    np.testing.assert_array_equal(kept["whiten"]["kernel"], state.params["whiten"]["kernel"])
    assert moved["whiten"] == {"kernel": False, "bias": True}
    assert moved["group1_norm1"] == {"scale": False, "bias": True}
    assert moved["group1_conv1"]["kernel"]
    assert moved["group1_conv2"]["kernel"]
    assert result.final["train"]["accuracy"] > 0.5  # of four classes


@pytest.mark.slow
def test_whitening_initialization_is_the_same_for_streamed_data() -> None:
    states = []
    for stream in ("false", "true"):
        plan = make_plan(small_recipe(f"data.stream={stream}"))
        train = jaxtrain.data.splits.read_splits(plan.splits, ("train",), 0)["train"]
        states.append(initialize_run(plan, fit_normalization(plan.splits, train), train))
    jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)


def test_whitening_initialization_of_an_unsuitable_model_is_refused(tmp_path: Path) -> None:
    config = small_recipe("model=linear", "parameters.learning_rate=[['.*', 1]]", "parameters.frozen=[['.*', 0]]",
                          "optimizer.weight_decay=0", "average=none")  # fmt: skip
    with pytest.raises(ConfigError, match="a convolution with one group") as error:
        jaxtrain.fit(config, tmp_path / "run")
    assert error.value.path == "initialize"
