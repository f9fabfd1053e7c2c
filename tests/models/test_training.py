"""A small member of every family in training, on one device and on eight."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from jaxtrain.config import ModelSpec
from jaxtrain.data.loader import Batch
from jaxtrain.distributed.mesh import make_layout
from jaxtrain.models import MODELS
from jaxtrain.models.densenets import DenseNet
from jaxtrain.models.residual import ResidualOptions
from jaxtrain.models.resnets import ResNet
from jaxtrain.nn.layers import LayerBuilder
from jaxtrain.optim import sgd
from jaxtrain.optim.losses import cross_entropy
from jaxtrain.optim.param_rules import path_name
from jaxtrain.training.objective import Objective
from jaxtrain.training.state import TrainState, jit_for_one_call, state_initializer
from jaxtrain.training.step import make_train_step
from tests.levels import slow_except

CLASSES, BATCH, STEPS, SEED = 3, 8, 12, 0


def imagenet_resnet(num_classes: int) -> ResNet:
    """Return a ResNet with the stem for large images, as in registered models of depth 18 and more."""
    return ResNet(num_classes, blocks=(1, 1), features=(8, 8), layers=LayerBuilder(norm="group", remat=True))


def bottleneck_resnet(num_classes: int) -> ResNet:
    residual = ResidualOptions(kind="bottleneck", stride_in="1x1", zero_init=False)
    return ResNet(num_classes, blocks=(1, 1), features=(4, 8), residual=residual)


def imagenet_densenet(num_classes: int) -> DenseNet:
    return DenseNet(num_classes, blocks=(2, 2), growth=4, stem_features=8)


DOUBLE = "dtype=float64, param_dtype=float64"
"""For nets with many maxima, where rounding can decide which input gets the gradient."""
SMALL: dict[str, tuple[str | Callable[[int], Any], int, float]] = {
    "linear": ("linear", 4, 0.1),
    "mlp": ("mlp(widths=[16, 8], dropout_rate=0.1)", 4, 0.1),
    "maxout_mlp": ("maxout_mlp(widths=[8, 8], pieces=3, dropout_rate=0.1)", 4, 0.1),
    "dropconnect": ("mlp(widths=[16], dropconnect_rate=0.2, dropout_rate=0.1, dropout_kind=gaussian)", 4, 0.1),
    "fractional_cnn": ("fractional_cnn(width=6, blocks=3, dropout_rate=0.1)", 12, 0.05),
    "lenet5": ("lenet5(pooling=average, activation=tanh, kernel_init=xavier)", 16, 0.1),
    "lenet5_1998": ("lenet5_1998", 32, 0.001),
    "alexnet": ("alexnet(dropout_rate=0.1, norm_position=after_pool)", 67, 0.01),
    "zfnet": ("zfnet(dropout_rate=0.1)", 67, 0.003),
    "vgg": ("vgg11(dropout_rate=0.1, activation=tanh)", 32, 0.002),
    "googlenet": ("googlenet(dropout_rate=0.1, auxiliary_dropout_rate=0.1)", 80, 0.01),
    "resnet": (imagenet_resnet, 32, 0.1),
    "bottleneck": (bottleneck_resnet, 32, 0.1),
    "cifar_resnet": ("cifar_resnet(depth=8, last_survival=0.8)", 16, 0.1),
    "plain": ("cifar_resnet(depth=8, shortcut=none, activation=prelu)", 16, 0.1),
    "cifar_resnext": (f"cifar_resnext(depth=11, groups=2, group_width=8, {DOUBLE})", 16, 0.1),
    "preact_resnet": ("preact_resnet(depth=11, kind=bottleneck, shortcut=C, remat=true)", 16, 0.1),
    "wide_resnet": ("wide_resnet(depth=10, width=2, dropout_rate=0.3)", 16, 0.1),
    "airbench": ("airbench94(widths=[8, 8, 8])", 25, 0.3),
    "densenet": (imagenet_densenet, 32, 0.1),
    "cifar_densenet": ("cifar_densenet(depth=10, growth=4)", 16, 0.1),
    "fractalnet": ("fractalnet(columns=3, features=[8], dropout_rates=[0.1])", 4, 0.1),
    "vit": ("vit(patch=4, width=16, depth=2, heads=2, mlp_width=32)", 8, 0.1),
}
"""A small model of each family, the side of its images, and a learning rate."""


def test_small_models_cover_every_family() -> None:
    families = {info.factory.partition(":")[2] for info in MODELS.values()}
    assert families <= SMALL.keys()


def images_by_class(side: int) -> Batch:
    """Return noise images with a different brightness for each class."""
    labels = np.arange(BATCH, dtype=np.int32) % CLASSES
    images = np.random.default_rng(0).normal(size=(BATCH, side, side, 1)) + labels.reshape(-1, 1, 1, 1)
    return Batch(images.astype(np.float32), labels)


def init_state(model: Any, rate: float, side: int) -> TrainState:
    """Return the initial state on one device; it is compiled once for all runs, since compilation is slow."""
    return jit_for_one_call(state_initializer(model, sgd(rate, momentum=0.9), (side, side, 1), SEED))()


Trained = tuple[list[TrainState], list[float], int]


def run_training(model: Any, start: TrainState, batch: Batch, rate: float, devices: int, steps: int) -> Trained:
    """Return the states after two steps and after all, the losses, and the number of compilations of the step."""
    layout = make_layout(devices, BATCH)
    step = jax.jit(make_train_step(Objective(model, cross_entropy()), sgd(rate, momentum=0.9), SEED))
    state, batch = jax.block_until_ready(jax.device_put((start, batch), (layout.replicated, layout.batch)))
    states, losses = [], []
    for i in range(steps):
        state, metrics = jax.block_until_ready(step(state, batch))
        total, count = metrics["loss"]
        losses.append(float(total) / float(count))
        if i == 1:
            states.append(state)
    return [*states, state], losses, step._cache_size()


@pytest.mark.exhaustive_cases("alexnet", "fractional_cnn", "googlenet", "vgg", "zfnet")
@pytest.mark.quick_cases("mlp")
@pytest.mark.parametrize("name", slow_except(SMALL, "mlp", "cifar_resnet"))
def test_small_model_of_every_family_trains_on_one_and_eight_devices(name: str) -> None:
    """The loss falls, every parameter moves, the step compiles once, and eight devices give the result of one."""
    double = DOUBLE in str(SMALL[name])  # in which an int32 meets an int64
    with jax.enable_x64(double), jax.numpy_dtype_promotion("standard" if double else "strict"):
        check(*SMALL[name])


def check(make: str | Callable[[int], Any], side: int, rate: float) -> None:
    model = ModelSpec.parse(make).build(num_classes=CLASSES) if isinstance(make, str) else make(CLASSES)
    batch = images_by_class(side)
    start = init_state(model, rate, side)
    (second, last), losses, compiles = run_training(model, start, batch, rate, 1, STEPS)
    assert compiles == 1
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * losses[0]

    start, second, last = jax.device_get((start, second, last))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.params, last.params)
    still = [path_name(p) for p, m in jax.tree_util.tree_leaves_with_path(moved) if not m]
    assert not [s for s in still if not s.endswith("key/bias")]  # of attention, which the softmax does not see

    (other, _), other_losses, compiles = run_training(model, start, batch, rate, 8, 2)
    assert compiles == 1
    np.testing.assert_allclose(other_losses, losses[:2], rtol=1e-4)
    scale = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (start.params, second.params)), strict=True))
    for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(jax.device_get(other)), strict=True):
        difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
        # rounding decides a few of many maxima, and with them where some gradients go
        assert np.sqrt(np.square(difference).mean()) <= 5e-3 * scale + 1e-3 * np.abs(b).max()
