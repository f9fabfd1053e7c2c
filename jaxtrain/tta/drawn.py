"""Random views: augmentations of the image, and random draws of the model.

The key of a view is a function of the seed, the example's index in its split, and the index of the view. The draws do
not depend on batches or devices.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveInt
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.config.spec import AugmentationSpec
from jaxtrain.models.outputs import main_logits
from jaxtrain.nn.marginalization import draw_outputs
from jaxtrain.tta.base import BuildViews, Examples, TTASetup, ViewGroup


def fold_view_index(keys: jax.Array, index: jax.Array) -> jax.Array:
    """Return key[N] of a view, from the keys of the examples."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, index)


def augmented(k: PositiveInt, augment: tuple[AugmentationSpec, ...]) -> BuildViews:
    """Build `k` views by random augmentations, applied as in training.

    They run before normalization, or after it with `normalize_first`.

    Args:
      k: the number of views of each image.
      augment: the augmentations, as in "pad_crop(4)|flip_lr"; a run supplies those of training by default.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain.tta
      >>> from jaxtrain.config import AugmentationSpec
      >>> from jaxtrain.tta.base import TTASetup
      >>> setting = TTASetup(image_shape=(1, 3, 1), model=None, normalize=lambda pixels: pixels / 255)
      >>> (group,) = jaxtrain.tta.augmented(4, (AugmentationSpec("flip_lr"),))(setting)
      >>> pixels = jnp.array([0, 51, 102], jnp.uint8).reshape(1, 1, 3, 1)
      >>> view = jax.jit(lambda index: group.view((pixels, jax.random.split(jax.random.key(0), 1)), index))
      >>> [[round(float(x), 1) for x in view(jnp.int32(i)).ravel()] for i in range(4)]
      [[0.4, 0.2, 0.0], [0.0, 0.2, 0.4], [0.4, 0.2, 0.0], [0.0, 0.2, 0.4]]
    """
    if not augment:
        raise ValueError(f"without augmentations all {k} views would be the same; set augment, as in augment='flip_lr'")
    augment_batch = pipeline([spec.build() for spec in augment])

    def draw_one(key: jax.Array, image: jax.Array) -> jax.Array:
        return augment_batch(key, image[None])[0]

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        def prepare(examples: Examples) -> tuple[jax.Array, jax.Array]:
            return examples.images if setting.normalize_first else examples.pixels, examples.keys

        def view(prepared: tuple[jax.Array, jax.Array], index: jax.Array) -> jax.Array:
            images, keys = prepared
            inputs = jax.vmap(draw_one)(fold_view_index(keys, index), images)
            return inputs if setting.normalize_first else setting.normalize(inputs)

        return (ViewGroup((1 / k,) * k, prepare, view),)

    return build_groups


def draws(k: PositiveInt, layers: Literal["all", "pooling"] = "all") -> BuildViews:
    """Build `k` evaluations with random draws of the model as in training, one per example: Monte Carlo dropout.

    Batch normalization uses its running statistics. Draws that a layer makes once for a batch are made for each
    example.

    Args:
      k: the number of draws for each image.
      layers: "all" layers that draw in training, or "pooling": only the regions of fractional pooling, with the model
        otherwise in evaluation mode, as in Graham 2014.

    Example:
      >>> import flax, jax, jax.numpy as jnp, jaxtrain, jaxtrain.tta
      >>> from jaxtrain.tta.base import TTASetup
      >>> class Net(flax.linen.Module):
      ...     @flax.linen.compact
      ...     def __call__(self, images, *, train):
      ...         return jaxtrain.nn.Dropout(train, rate=0.5)(images.reshape(-1, 4))
      >>> (group,) = jaxtrain.tta.draws(k=4)(TTASetup((1, 4, 1), Net(), normalize=lambda pixels: pixels / 255))
      >>> images, keys = jnp.ones((1, 1, 4, 1)), jax.random.split(jax.random.key(0), 1)
      >>> [group.score(Net(), {}, group.view((images, keys), jnp.int32(i)))[0].tolist() for i in range(4)]
      [[2.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 2.0], [0.0, 2.0, 0.0, 2.0], [2.0, 0.0, 0.0, 0.0]]
    """

    def prepare(examples: Examples) -> tuple[jax.Array, jax.Array]:
        return examples.images, examples.keys

    def view(prepared: tuple[jax.Array, jax.Array], index: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, keys = prepared
        return images, fold_view_index(keys, index)

    def build_groups(setting: TTASetup) -> tuple[ViewGroup, ...]:
        if layers == "pooling" and not _draws_at_test(setting):
            raise ValueError(
                "layers=pooling draws only in fractional pooling, which "
                f"{type(setting.model).__name__} lacks; set layers=all"
            )
        return (
            ViewGroup(
                (1 / k,) * k, prepare, view, _score_by_example(draw_outputs if layers == "all" else _apply_at_test)
            ),
        )

    return build_groups


DrawOutputs = Callable[[jax.Array, Any, Mapping[str, Any], jax.Array], Any]
"""A function `(key, model, variables, images) -> outputs of the model`."""


def _score_by_example(draw: DrawOutputs) -> Callable[[Any, Mapping[str, Any], tuple[jax.Array, jax.Array]], jax.Array]:
    """Return a score function f[N, K] of images and keys, with one draw for each example."""

    def score(model: Any, variables: Mapping[str, Any], inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, keys = inputs

        def draw_one(key: jax.Array, image: jax.Array) -> jax.Array:
            return main_logits(draw(key, model, variables, image[None]))[0]

        return jax.vmap(draw_one)(keys, images)

    return score


def _apply_at_test(key: jax.Array, model: Any, variables: Mapping[str, Any], images: jax.Array) -> Any:
    """Return the outputs of the model in evaluation, with `key` for the random stream "dropout"."""
    return model.apply(dict(variables), images, train=False, rngs={"dropout": key})


def _draws_at_test(setting: TTASetup) -> bool:
    """Return whether the model uses a key in evaluation, by tracing it."""

    def run(key: jax.Array, images: jax.Array) -> Any:
        variables = setting.model.init(jax.random.key(0), images, train=False)
        return _apply_at_test(key, setting.model, variables, images)

    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(run)(key, jax.ShapeDtypeStruct((1, *setting.image_shape), jnp.float32)).jaxpr
    return any(v is traced.invars[0] for eqn in traced.eqns for v in eqn.invars)
