"""FractalNet (Larsson, Maire & Shakhnarovich 2017, arXiv:1605.07648)."""

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt, Probability
from jaxtrain.nn.fractal_join import draw_local_paths, fractal_join_given, global_paths
from jaxtrain.nn.layers import LayerBuilder, LayerOptions, endpoint
from jaxtrain.nn.normalization import Norm
from jaxtrain.nn.pooling import pool


class FractalNet(nn.Module):
    """FractalNet: blocks of parallel columns, then `logits`.

    A block is the fractal f_C of the paper: f_1 is a convolution, and f_{C+1}(z) is the join of f_C(f_C(z)) and a
    convolution of z. Column c of 1 ... C therefore has 2^(c - 1) convolutions `blockB_columnC_convI`. Each is a 3x3
    convolution with a bias, followed by dropout, normalization and activation. A 2x2 pooling ends every column before
    the last join of a block, as in the authors' code. A join is the mean of its inputs.

    In training drop-path removes inputs of joins. For a share of the batches it keeps one column of the whole net
    (global); for the others it drops each input of each join independently (local).

    Endpoints: "block1" and so on.

    Attributes:
      num_classes: number of logits.
      columns: C, the number of columns; the depth is 2^(C - 1) times the number of blocks.
      features: channels of each block.
      dropout_rates: dropout rate of each block.
      drop_path_rate: probability of dropping an input of a join in local drop-path; 0 turns all drop-path off.
      global_share: share of the batches with global drop-path.
      layers: options that all layers share.
    """

    num_classes: int
    columns: int = 3
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    dropout_rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)
    drop_path_rate: float = 0.15
    global_share: float = 0.5
    layers: LayerBuilder = LayerBuilder(bias=True)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C], H and W at least 2^blocks -> logits f32[N, num_classes]."""
        least = 2 ** len(self.features)
        if min(images.shape[1:3]) < least:
            h, w = images.shape[1:3]
            raise ValueError(
                f"fractalnet needs images of at least {least}x{least} (it halves them {len(self.features)} times), "
                f"but these are {h}x{w}: set data.resize or data.pad"
            )
        layers = self.layers.at(train=train)
        key = self.make_rng("dropout") if train and self.drop_path_rate else None
        x = images
        for b, (features, rate) in enumerate(zip(self.features, self.dropout_rates, strict=True), 1):
            x = endpoint(self, f"block{b}", self._block(layers, x, b, features, rate, key))
        x = x.reshape(x.shape[0], -1)
        return layers.logits(x, self.num_classes)

    def _block(
        self, layers: LayerBuilder, x: jax.Array, block: int, features: int, rate: float, key: jax.Array | None
    ) -> jax.Array:
        last = 2 ** (self.columns - 1)
        columns = [x] * self.columns
        for time in range(1, last + 1):
            # column c (from 0) ends a convolution at every multiple of 2^(C - 1 - c); columns that end together join
            ending = [c for c in range(self.columns) if time % 2 ** (self.columns - 1 - c) == 0]
            for c in ending:
                name = f"block{block}_column{c + 1}_conv{time // 2 ** (self.columns - 1 - c)}"
                columns[c] = self._conv(layers, columns[c], features, rate, name)
                if time == last:
                    columns[c] = pool(columns[c])
            joined = self._join([columns[c] for c in ending], ending, key, block * last + time)
            for c in ending:
                columns[c] = joined
        return columns[0]

    def _conv(self, layers: LayerBuilder, x: jax.Array, features: int, rate: float, name: str) -> jax.Array:
        x = layers.dropout(layers.conv(x, features, name=name), rate)
        return layers.act(layers.normalize(x, name=f"{name}_norm"))

    def _join(self, inputs: list[jax.Array], columns: list[int], key: jax.Array | None, index: int) -> jax.Array:
        if len(inputs) == 1:
            return inputs[0]
        if key is None:
            return fractal_join_given(jnp.ones(len(inputs), bool), inputs)
        share, column = jax.random.split(jax.random.fold_in(key, 0))  # same draw at every join of the net
        chosen = jax.random.randint(column, (), 0, self.columns)
        local = draw_local_paths(jax.random.fold_in(key, index), len(inputs), self.drop_path_rate)
        use_global = jax.random.bernoulli(share, self.global_share)
        return fractal_join_given(jnp.where(use_global, global_paths(chosen, columns), local), inputs)


def fractalnet(
    *,
    num_classes: PositiveInt,
    columns: PositiveInt = 3,
    features: tuple[PositiveInt, ...] = (64, 128, 256, 512, 512),
    dropout_rates: tuple[Fraction, ...] = (0.0, 0.1, 0.2, 0.3, 0.4),
    drop_path_rate: Fraction = 0.15,
    global_share: Probability = 0.5,
    norm: Norm = "batch",
    **options: Unpack[LayerOptions],
) -> FractalNet:
    """Build a FractalNet; the defaults are FractalNet-20 for images of 32x32, and columns=4 is FractalNet-40.

    Args:
      num_classes: number of logits.
      columns: C, the number of columns of a block.
      features: channels of each block.
      dropout_rates: dropout rate of each block.
      drop_path_rate: probability of dropping an input of a join in local drop-path; 0 turns all drop-path off.
      global_share: share of the batches that train a single column (global drop-path).
      norm: normalization after the dropout.
      options: layer options; see `LayerBuilder`.

    Raises:
      ValueError: if the numbers of dropout rates and of blocks differ.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.fractalnet(num_classes=10, columns=2, features=(8, 16), dropout_rates=(0.0, 0.1))
      >>> images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> [name for name in sorted(variables["params"]) if name.endswith(("conv1", "conv2"))][:3]
      ['block1_column1_conv1', 'block1_column2_conv1', 'block1_column2_conv2']
    """
    if len(features) != len(dropout_rates):
        raise ValueError(
            f"fractalnet needs one dropout rate per block, but got {len(dropout_rates)} dropout_rates for "
            f"{len(features)} blocks (features)"
        )
    return FractalNet(
        num_classes=num_classes,
        columns=columns,
        features=features,
        dropout_rates=dropout_rates,
        drop_path_rate=drop_path_rate,
        global_share=global_share,
        layers=LayerBuilder(norm=norm, bias=True, **options),
    )
