"""The residual block without normalization of Fixup (Zhang, Dauphin & Ma 2019, arXiv:1901.09321, figure 1)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.models.residual import EXPANSION, Kind, Shortcut, StrideIn, shortcut
from jaxtrain.nn.initializers import constant, he
from jaxtrain.nn.layers import Layers
from jaxtrain.nn.sizes import symmetric
from jaxtrain.nn.stochastic_depth import Scaling, StochasticDepth
from jaxtrain.nn.zero_branches import fixup_scale


class FixupBlock(nn.Module):
    """act(multiplier * branch(x) + bias + shortcut): a scalar bias before each convolution and each activation.

    Its convolutions begin as Fixup has them: He's, scaled by L^(-1 / (2 m - 2)), and the last one 0, so that the block
    begins as its shortcut. A projection sees the input with the first bias, as in the authors' program; so does the
    input that is cut and padded with zeros. What the classifier begins with is not the block's matter: 0, by the paper.

    The scalars are `bias1a` before `conv1`, `bias1b` after it, and so on, and `multiplier`; the paper trains them with
    a tenth of the learning rate.

    Attributes:
      layers: how layers are made; its `norm_kind` is "none".
      features: channels of the stage; the block gives `EXPANSION[kind]` times as many.
      blocks: L, residual branches in the whole net.
      kind, stride, shortcut, stride_in, groups, width, survival, scaling, per_example: as in `ResidualBlock`.
    """

    layers: Layers
    features: int
    blocks: int
    kind: Kind = "basic"
    stride: int = 1
    shortcut: Shortcut = "B"
    stride_in: StrideIn = "3x3"
    groups: int = 1
    width: int = 0
    survival: float = 1.0
    scaling: Scaling = "at_test"
    per_example: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, H, W, C]` -> `[N, H / stride, W / stride, features * expansion]`."""
        layers, features = self.layers, self.features * EXPANSION[self.kind]
        if layers.norm_kind != "none" or self.shortcut == "none":
            raise ValueError(
                "a Fixup block is for residual nets without normalization; it got norm="
                f"{layers.norm_kind!r} and shortcut={self.shortcut!r}"
            )
        shifted = x + self._scalar("bias1a", x)
        y = StochasticDepth(layers.train, self.survival, self.scaling, self.per_example)(self._branch(shifted))
        changes = self.stride != 1 or x.shape[-1] != features
        source = shifted if changes or self.shortcut == "C" else x
        plain = dataclasses.replace(layers, bias=False)
        return layers.act(y + shortcut(plain, source, features, self.stride, self.shortcut, normed=False))

    def _branch(self, y: jax.Array) -> jax.Array:
        convolutions = self._convolutions()
        for i, (features, window, stride, groups) in enumerate(convolutions, 1):
            last = i == len(convolutions)
            factor = 0.0 if last else fixup_scale(self.blocks, len(convolutions))
            y = y if i == 1 else y + self._scalar(f"bias{i}a", y)
            y = nn.Conv(
                features,
                (window, window),
                strides=stride,
                padding=symmetric((window - 1) // 2),
                feature_group_count=groups,
                use_bias=False,
                kernel_init=he(2 * factor**2) if factor else constant(0.0),
                dtype=jnp.dtype(self.layers.dtype),
                param_dtype=jnp.dtype(self.layers.param_dtype),
                name=f"conv{i}",
            )(y)
            y = y * self._scalar("multiplier", y, 1.0) if last else y
            y = y + self._scalar(f"bias{i}b", y)
            y = y if last else self.layers.act(y)
        return y

    def _convolutions(self) -> list[tuple[int, int, int, int]]:
        """Channels, window, stride and groups of each."""
        if self.kind == "basic":
            return [(self.features, 3, self.stride, 1), (self.features, 3, 1, 1)]
        width = self.width or self.features
        first, second = (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
        return [(width, 1, first, 1), (width, 3, second, self.groups), (self.features * EXPANSION[self.kind], 1, 1, 1)]

    def _scalar(self, name: str, x: jax.Array, value: float = 0.0) -> jax.Array:
        number = self.param(name, constant(value), (), jnp.dtype(self.layers.param_dtype))
        return number.astype(x.dtype)
