"""The vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929, table 1)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxtrain.annotations import Fraction, PositiveInt
from jaxtrain.nn.dropout import Dropout
from jaxtrain.nn.init.initializers import initializer
from jaxtrain.nn.layers import DType, Remat, endpoint, rematerialize
from jaxtrain.sharding import broadcast_to_batch
from jaxtrain.xla_cpu.convolutions import conv_general_dilated

EPSILON = 1e-6


def layer_norm(x: jax.Array, **options: Any) -> jax.Array:
    """Apply layer normalization over the last axis, in float32 at least; call this inside a compact method."""
    with jax.numpy_dtype_promotion("standard"):  # flax's LayerNorm needs it for half precision
        return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, **options)(x)


class EncoderBlock(nn.Module):
    """A pre-norm encoder block: x + attention(norm(x)), then x + mlp(norm(x)); the MLP has a GELU.

    Attributes:
      heads: number of attention heads.
      mlp_width: hidden units of the MLP.
      train: whether this is training.
      dropout_rate: dropout rate after attention and after each dense layer.
      dtype: dtype of the computation.
      param_dtype: dtype of the parameters.
    """

    heads: int
    mlp_width: int
    train: bool
    dropout_rate: float = 0.0
    dtype: DType = "float32"
    param_dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`x[N, tokens, D]` -> the same shape."""
        dtypes: dict[str, Any] = {"dtype": jnp.dtype(self.dtype), "param_dtype": jnp.dtype(self.param_dtype)}
        glorot = initializer("glorot_uniform")

        def dropout(y: jax.Array) -> jax.Array:
            return Dropout(self.train, self.dropout_rate)(y)

        y = layer_norm(x, name="norm1", **dtypes)
        attend = nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=glorot, attention_fn=attention, name="attention", **dtypes
        )
        y = attend(y)
        x = x + dropout(y)
        y = layer_norm(x, name="norm2", **dtypes)
        small = nn.initializers.normal(1e-6)
        y = nn.Dense(self.mlp_width, kernel_init=glorot, bias_init=small, name="fc1", **dtypes)(y)
        y = dropout(nn.gelu(y, approximate=False))
        y = nn.Dense(x.shape[-1], kernel_init=glorot, bias_init=small, name="fc2", **dtypes)(y)
        return x + dropout(y)


class ViT(nn.Module):
    """Vision transformer: patches, a class token, learned positions, encoder blocks `block1 ... blockN`, `logits`.

    A layer normalization `norm` precedes `logits`. The position embeddings are learned for one number of patches, so
    parameters fit images of one size.

    Endpoints: "patch_tokens", "block1" and so on, "class_token".

    Attributes:
      num_classes: number of logits.
      patch: height and width of a patch in pixels.
      width: D, the size of a token.
      depth: number of encoder blocks.
      heads: number of attention heads.
      mlp_width: hidden units of the MLPs.
      dropout_rate: dropout rate after the position embeddings, after attention and after each dense layer of the MLPs.
      dtype: dtype of the computation.
      param_dtype: dtype of the parameters.
      remat: whether to recompute each block in the backward pass instead of storing its activations (`LayerBuilder`).
    """

    num_classes: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    dropout_rate: float = 0.0
    dtype: DType = "float32"
    param_dtype: DType = "float32"
    remat: Remat = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """`images` f32[N, H, W, C], H and W multiples of `patch` -> logits f32[N, num_classes]."""
        x = self._prepend_class_token(self._patches(images))
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (1, *x.shape[1:]), jnp.dtype(self.param_dtype)
        )
        x = x + positions.astype(x.dtype)
        x = Dropout(train, self.dropout_rate)(x)
        block = rematerialize(EncoderBlock, self.remat)
        for i in range(1, self.depth + 1):
            x = block(
                heads=self.heads,
                mlp_width=self.mlp_width,
                train=train,
                dropout_rate=self.dropout_rate,
                name=f"block{i}",
                **self._dtypes(as_names=True),
            )(x)
            x = endpoint(self, f"block{i}", x)
        x = layer_norm(x, name="norm", **self._dtypes())
        x = endpoint(self, "class_token", x[:, 0])
        logits = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="logits", **self._dtypes())(x)
        return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits

    def _patches(self, images: jax.Array) -> jax.Array:
        h, w = images.shape[1:3]
        if h % self.patch or w % self.patch:
            raise ValueError(
                f"vit needs images whose sides are multiples of the patch size {self.patch}, but they are {h}x{w}: set "
                "data.resize or model.patch"
            )
        side = (self.patch, self.patch)
        conv = nn.Conv(
            self.width,
            side,
            side,
            "VALID",
            kernel_init=initializer("xavier"),
            conv_general_dilated=conv_general_dilated,
            name="patches",
            **self._dtypes(),
        )
        return endpoint(self, "patch_tokens", conv(images).reshape(images.shape[0], -1, self.width))

    def _prepend_class_token(self, x: jax.Array) -> jax.Array:
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width), jnp.dtype(self.param_dtype))
        return jnp.concatenate([broadcast_to_batch(x, token.astype(x.dtype)), x], axis=1)

    def _dtypes(self, *, as_names: bool = False) -> dict[str, Any]:
        names: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        return names if as_names else {key: jnp.dtype(name) for key, name in names.items()}


def vit(
    *,
    num_classes: PositiveInt,
    patch: PositiveInt = 16,
    width: PositiveInt = 768,
    depth: PositiveInt = 12,
    heads: PositiveInt = 12,
    mlp_width: PositiveInt = 3072,
    dropout_rate: Fraction = 0.0,
    dtype: DType = "float32",
    param_dtype: DType = "float32",
    remat: Remat = False,
) -> ViT:
    """Build a vision transformer; the defaults are ViT-B/16.

    Args:
      num_classes: number of logits.
      patch: height and width of a patch in pixels.
      width: size of a token; a multiple of `heads`.
      depth: number of encoder blocks.
      heads: number of attention heads.
      mlp_width: hidden units of the MLPs.
      dropout_rate: dropout rate after the position embeddings, after attention and after each dense layer of the MLPs.
      dtype: dtype of the computation.
      param_dtype: dtype of the parameters.
      remat: whether to recompute each block in the backward pass instead of storing its activations (`LayerBuilder`).

    Raises:
      ValueError: if the width is not a multiple of `heads`.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> model = jaxtrain.models.vit(num_classes=10, patch=4, width=64, depth=1, heads=4, mlp_width=128)
      >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
      >>> variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
      >>> variables["params"]["positions"].shape  # a class token and 8 * 8 patches
      (1, 65, 64)
    """
    if width % heads:
        raise ValueError(f"vit: the width of {width} does not divide into {heads} heads; choose a multiple of heads")
    return ViT(
        num_classes=num_classes,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=mlp_width,
        dropout_rate=dropout_rate,
        dtype=dtype,
        param_dtype=param_dtype,
        remat=remat,
    )


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Apply scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), for `nn.MultiHeadDotProductAttention`.

    The softmax computes in float32 at least; both matrix multiplications compute in the dtype of the inputs.

    Args:
      query: array `[..., queries, heads, D]`; `key` and `value` have its dtype.
      key: array `[..., keys, heads, D]`.
      value: array `[..., keys, heads, D]`.

    Returns:
      `[..., queries, heads, D]`.
    """
    weights = nn.dot_product_attention_weights(
        query, key, deterministic=True, force_fp32_for_softmax=value.dtype.itemsize < 4
    )
    outputs: jax.Array = jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value)
    return outputs
