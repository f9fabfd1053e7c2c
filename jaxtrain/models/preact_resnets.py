"""Residual networks with the activation first (He et al. 2016, arXiv:1603.05027) and wide ones (Zagoruyko & Komodakis
2016, arXiv:1605.07146), for images of 32x32.
"""

import jax
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt, Probability
from jaxtrain.models.cifar_resnets import blocks_of
from jaxtrain.models.endpoints import endpoint
from jaxtrain.models.residual import EXPANSION, Kind, Shortcut, shortcut
from jaxtrain.nn.activations import Activation
from jaxtrain.nn.initializers import KernelInit
from jaxtrain.nn.layers import DType, Layers
from jaxtrain.nn.normalization import Norm
from jaxtrain.nn.pooling import global_pool
from jaxtrain.nn.stochastic_depth import Scaling, StochasticDepth, linear_decay


class PreactBlock(nn.Module):
    """conv(act(norm(...))) + shortcut, with nothing after the sum.

    Where the shape changes, the shortcut too begins after the first normalization and activation (He et al. 2016,
    appendix); a projection is not normalized.

    Attributes:
      layers: how layers are made.
      features: channels of the stage; the block gives `EXPANSION[kind]` times as many.
      kind, stride, shortcut, survival, scaling, per_example: as in `ResidualBlock`.
      dropout_rate: between the two convolutions of a basic block, after the activation (wide networks, section 2.4).
    """

    layers: Layers
    features: int
    kind: Kind = "basic"
    stride: int = 1
    shortcut: Shortcut = "B"
    dropout_rate: float = 0.0
    survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, features = self.layers, self.features * EXPANSION[self.kind]
        active = layers.act(layers.norm(x, name="norm1"))
        changes = self.stride != 1 or x.shape[-1] != features
        if self.kind == "basic":
            y = layers.conv(active, self.features, stride=self.stride, name="conv1")
            y = layers.dropout(layers.act(layers.norm(y, name="norm2")), self.dropout_rate)
            y = layers.conv(y, self.features, name="conv2")
        else:
            y = layers.conv(active, self.features, 1, name="conv1")
            y = layers.conv(layers.act(layers.norm(y, name="norm2")), self.features, stride=self.stride, name="conv2")
            y = layers.conv(layers.act(layers.norm(y, name="norm3")), features, 1, name="conv3")
        if self.shortcut == "none":
            return y
        y = StochasticDepth(layers.train, self.survival, self.scaling, self.per_example)(y)
        source = active if changes else x
        return y + shortcut(layers, source, features, self.stride, self.shortcut, normed=False)


class PreactResNet(nn.Module):
    """A 3x3 convolution, three stages of blocks, a last normalization and activation, a global average and `logits`.

    Endpoints: "stem", "stage1" to "stage3", "pooled".

    Attributes:
      num_classes: number of logits.
      blocks: of each stage.
      features: of each stage, before the expansion of a bottleneck.
      stem_features: channels of the first convolution.
      kind, shortcut, dropout_rate, scaling, per_example: see `PreactBlock`.
      last_survival: probability of the last block in training; the others' fall to it linearly from 1.
      norm, activation, kernel_init, dtype, param_dtype: see `Layers`.
      remat: computes each block once more for its gradient.
    """

    num_classes: int
    blocks: int
    features: tuple[int, int, int] = (16, 32, 64)
    stem_features: int = 16
    kind: Kind = "basic"
    shortcut: Shortcut = "B"
    dropout_rate: float = 0.0
    last_survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False
    norm: Norm = "batch"
    activation: Activation = "relu"
    kernel_init: KernelInit = "he"
    dtype: DType = "float32"
    param_dtype: DType = "float32"
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C] -> logits f32[N, num_classes]."""
        layers = Layers(
            train=train,
            norm_kind=self.norm,
            activation=self.activation,
            kernel_init=self.kernel_init,
            bias=self.norm == "none",
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        x = endpoint(self, "stem", layers.conv(images, self.stem_features, name="conv1"))
        block = nn.remat(PreactBlock) if self.remat else PreactBlock
        index = 0
        for stage, features in enumerate(self.features, 1):
            for i in range(1, self.blocks + 1):
                index += 1
                x = block(
                    layers=layers,
                    features=features,
                    kind=self.kind,
                    stride=2 if stage > 1 and i == 1 else 1,
                    shortcut=self.shortcut,
                    dropout_rate=self.dropout_rate,
                    survival=linear_decay(index, 3 * self.blocks, self.last_survival),
                    scaling=self.scaling,
                    per_example=self.per_example,
                    name=f"stage{stage}_block{i}",
                )(x)
            x = endpoint(self, f"stage{stage}", x)
        x = layers.act(layers.norm(x, name="norm"))
        x = endpoint(self, "pooled", global_pool(x))
        return layers.dense(x, self.num_classes, name="logits").astype(images.dtype)


def preact_resnet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 110,
    kind: Kind = "basic",
    shortcut: Shortcut = "B",
    last_survival: Probability = 1.0,
    scaling: Scaling = "at_test",
    per_example: bool = False,
    norm: Norm = "batch",
    activation: Activation = "relu",
    kernel_init: KernelInit = "he",
    dtype: DType = "float32",
    param_dtype: DType = "float32",
    remat: bool = False,
) -> PreactResNet:
    """A pre-activation residual network: 110 with basic blocks, 164 and 1001 with bottlenecks.

    Args:
      num_classes: number of logits.
      depth: 6 n + 2, with bottlenecks 9 n + 2.
      kind: of the blocks.
      shortcut: where the shape changes.
      last_survival: probability of the last block's branch in training (stochastic depth), linear from 1.
      scaling: the convention of stochastic depth.
      per_example: whether each example's branches are drawn on their own.
      norm: before each convolution.
      activation: after each normalization.
      kernel_init: of convolutions.
      dtype: of computation.
      param_dtype: of parameters.
      remat: computes each block once more for its gradient.

    Raises:
      ValueError: for a depth that does not fit.
    """
    return PreactResNet(
        num_classes=num_classes,
        blocks=blocks_of(depth, 6 if kind == "basic" else 9, f"preact_resnet with {kind} blocks"),
        kind=kind,
        shortcut=shortcut,
        last_survival=last_survival,
        scaling=scaling,
        per_example=per_example,
        norm=norm,
        activation=activation,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        remat=remat,
    )


def wide_resnet(
    *,
    num_classes: PositiveInt,
    depth: PositiveInt = 28,
    width: PositiveInt = 10,
    dropout_rate: Fraction = 0.0,
    norm: Norm = "batch",
    activation: Activation = "relu",
    kernel_init: KernelInit = "he",
    dtype: DType = "float32",
    param_dtype: DType = "float32",
    remat: bool = False,
) -> PreactResNet:
    """A wide residual network: pre-activation basic blocks of 16, 32 and 64 times `width` channels.

    Args:
      num_classes: number of logits.
      depth: 6 n + 4, the projections counted: 16, 28, 40.
      width: the widening factor k.
      dropout_rate: inside each block; 0.3 is published for WRN-28-10.
      norm: before each convolution.
      activation: after each normalization.
      kernel_init: of convolutions.
      dtype: of computation.
      param_dtype: of parameters.
      remat: computes each block once more for its gradient.

    Raises:
      ValueError: for a depth that is not 6 n + 4.
    """
    if depth < 10 or (depth - 4) % 6:
        near = max((depth - 4) // 6, 1) * 6 + 4
        raise ValueError(f"wide_resnet has a depth of 6 n + 4, and {depth} is none; near are {near} and {near + 6}")
    return PreactResNet(
        num_classes=num_classes,
        blocks=(depth - 4) // 6,
        features=(16 * width, 32 * width, 64 * width),
        dropout_rate=dropout_rate,
        norm=norm,
        activation=activation,
        kernel_init=kernel_init,
        dtype=dtype,
        param_dtype=param_dtype,
        remat=remat,
    )
