"""FractalNet (Larsson, Maire & Shakhnarovich 2017, arXiv:1605.07648)."""

from typing import Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.config.annotations import Fraction, PositiveInt, Probability
from jaxtrain.nn.fractal_join import global_paths, join_given, local_paths
from jaxtrain.nn.layers import LayerOptions, Layers, endpoint
from jaxtrain.nn.normalization import Norm
from jaxtrain.nn.pooling import pool


class FractalNet(nn.Module):
    """Blocks of columns side by side, then `logits`.

    A block is the fractal f_C of the paper: f_1 is a convolution, and f_{C+1}(z) the join of f_C(f_C(z)) and a
    convolution of z. Column c of 1 ... C so has 2^(c - 1) convolutions, `blockB_columnC_convI`: a 3x3 convolution with
    a bias, dropout, normalization, activation. A 2x2 pooling ends every column before the last join of a block, as in
    the authors' code. A join is the mean of what comes in.

    In training drop-path leaves columns out of joins: for a share of the batches all but one of the whole net's
    (global), for the others each input of each join by itself (local).

    Endpoints: "block1" and so on.

    Attributes:
      num_classes: number of logits.
      columns: C; the depth is 2^(C - 1) times the number of blocks.
      features: channels of each block.
      dropout_rates: of each block.
      drop_path_rate: of an input of a join, in local drop-path; 0 for no drop-path at all.
      global_share: of the batches that have global drop-path.
      layers: how layers are made.
    """

    num_classes: int
    columns: int = 3
    features: tuple[int, ...] = (64, 128, 256, 512, 512)
    dropout_rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)
    drop_path_rate: float = 0.15
    global_share: float = 0.5
    layers: Layers = Layers(bias=True)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C], sides of at least 2^blocks -> logits f32[N, num_classes]."""
        least = 2 ** len(self.features)
        if min(images.shape[1:3]) < least:
            h, w = images.shape[1:3]
            raise ValueError(
                f"fractalnet halves its images {len(self.features)} times, and these are {h}x{w}: they must be at "
                f"least {least}x{least}"
            )
        layers = self.layers.at(train=train)
        key = self.make_rng("dropout") if train and self.drop_path_rate else None
        x = images
        for b, (features, rate) in enumerate(zip(self.features, self.dropout_rates, strict=True), 1):
            x = endpoint(self, f"block{b}", self._block(layers, x, b, features, rate, key))
        x = x.reshape(x.shape[0], -1)
        return layers.logits(x, self.num_classes)

    def _block(
        self, layers: Layers, x: jax.Array, block: int, features: int, rate: float, key: jax.Array | None
    ) -> jax.Array:
        last = 2 ** (self.columns - 1)
        columns = [x] * self.columns
        for time in range(1, last + 1):
            # column c (from 0) ends a convolution at every multiple of 2^(C - 1 - c); what ends at a time is joined
            ended = [c for c in range(self.columns) if time % 2 ** (self.columns - 1 - c) == 0]
            for c in ended:
                name = f"block{block}_column{c + 1}_conv{time // 2 ** (self.columns - 1 - c)}"
                columns[c] = self._conv(layers, columns[c], features, rate, name)
                if time == last:
                    columns[c] = pool(columns[c])
            joined = self._join([columns[c] for c in ended], ended, key, block * last + time)
            for c in ended:
                columns[c] = joined
        return columns[0]

    def _conv(self, layers: Layers, x: jax.Array, features: int, rate: float, name: str) -> jax.Array:
        x = layers.dropout(layers.conv(x, features, name=name), rate)
        return layers.act(layers.normalize(x, name=f"{name}_norm"))

    def _join(self, inputs: list[jax.Array], columns: list[int], key: jax.Array | None, place: int) -> jax.Array:
        if len(inputs) == 1:
            return inputs[0]
        if key is None:
            return join_given(jnp.ones(len(inputs), bool), inputs)
        share, column = jax.random.split(jax.random.fold_in(key, 0))  # the same for all joins of the net
        chosen = jax.random.randint(column, (), 0, self.columns)
        local = local_paths(jax.random.fold_in(key, place), len(inputs), self.drop_path_rate)
        whole = jax.random.bernoulli(share, self.global_share)
        return join_given(jnp.where(whole, global_paths(chosen, columns), local), inputs)


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
    """A fractal network; the defaults are FractalNet-20 for images of 32x32, and columns=4 is FractalNet-40.

    Args:
      num_classes: number of logits.
      columns: C.
      features: channels of each block.
      dropout_rates: of each block.
      drop_path_rate: with which local drop-path leaves an input of a join out; 0 for no drop-path.
      global_share: of the batches in which one column alone is trained.
      norm: after the dropout.
      options: see `Layers`.

    Raises:
      ValueError: where there are not as many rates as blocks.
    """
    if len(features) != len(dropout_rates):
        raise ValueError(
            f"fractalnet has a dropout rate for each block, and here are {len(dropout_rates)} dropout_rates for "
            f"{len(features)} features"
        )
    return FractalNet(
        num_classes=num_classes,
        columns=columns,
        features=features,
        dropout_rates=dropout_rates,
        drop_path_rate=drop_path_rate,
        global_share=global_share,
        layers=Layers(norm=norm, bias=True, **options),
    )
