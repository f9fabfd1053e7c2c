"""Views that are drawn: augmentations of the image, and what the model itself draws.

The key of a view is a function of the seed, the example's place in its split and the number of the view, so the draws
do not depend on batches or devices.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxtrain.annotations import PositiveInt
from jaxtrain.augment.pipeline import pipeline
from jaxtrain.config.spec import AugmentationSpec
from jaxtrain.models.outputs import logits_of
from jaxtrain.nn.marginalization import draw_outputs
from jaxtrain.tta.base import Examples, Group, Setting, Views


def of_view(keys: jax.Array, number: jax.Array) -> jax.Array:
    """key[N] of a view, from those of the examples."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def augmented(k: PositiveInt, augment: tuple[AugmentationSpec, ...]) -> Views:
    """`k` draws of augmentations, done where training does them: before normalization, or after `normalize_first`.

    Args:
      k: views of each image.
      augment: "pad_crop(4)|flip_lr"; those of training where none are named.
    """
    if not augment:
        raise ValueError(f"without augmentations {k} views are all the same: name some, as in augment='flip_lr'")
    whole = pipeline([spec.build() for spec in augment])

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        return whole(key, image[None])[0]

    def groups(setting: Setting) -> tuple[Group, ...]:
        def prepare(examples: Examples) -> tuple[jax.Array, jax.Array]:
            return examples.images if setting.normalize_first else examples.pixels, examples.keys

        def view(prepared: tuple[jax.Array, jax.Array], number: jax.Array) -> jax.Array:
            images, keys = prepared
            seen = jax.vmap(one)(of_view(keys, number), images)
            return seen if setting.normalize_first else setting.normalize(seen)

        return (Group((1 / k,) * k, prepare, view),)

    return groups


def draws(k: PositiveInt, layers: Literal["all", "pooling"] = "all") -> Views:
    """`k` draws of what the model draws in training, for each example its own: Monte Carlo dropout.

    Batch normalization uses its running statistics. What a layer draws for a whole batch it draws for an example here.

    Args:
      k: draws for each image.
      layers: "all" that draw in training, or the regions of fractional "pooling" alone and else the model at test,
        which is how Graham 2014 averages.
    """

    def prepare(examples: Examples) -> tuple[jax.Array, jax.Array]:
        return examples.images, examples.keys

    def view(prepared: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, keys = prepared
        return images, of_view(keys, number)

    def groups(setting: Setting) -> tuple[Group, ...]:
        if layers == "pooling" and not _draws_at_test(setting):
            raise ValueError(
                f"{type(setting.model).__name__} has no fractional pooling, which alone draws at test: set layers=all"
            )
        return (Group((1 / k,) * k, prepare, view, _by_example(draw_outputs if layers == "all" else _at_test)),)

    return groups


Drawn = Callable[[jax.Array, Any, Mapping[str, Any], jax.Array], Any]
"""`(key, model, variables, images) -> what the model gives`."""


def _by_example(draw: Drawn) -> Callable[[Any, Mapping[str, Any], tuple[jax.Array, jax.Array]], jax.Array]:
    """The logits f[N, K] of images by keys, one of each an example."""

    def score(model: Any, variables: Mapping[str, Any], seen: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, keys = seen

        def one(key: jax.Array, image: jax.Array) -> jax.Array:
            return logits_of(draw(key, model, variables, image[None]))[0]

        return jax.vmap(one)(keys, images)

    return score


def _at_test(key: jax.Array, model: Any, variables: Mapping[str, Any], images: jax.Array) -> Any:
    return model.apply(dict(variables), images, train=False, rngs={"dropout": key})


def _draws_at_test(setting: Setting) -> bool:
    """Whether the model at test makes anything of a key; found without computing anything."""

    def run(key: jax.Array, images: jax.Array) -> Any:
        variables = setting.model.init(jax.random.key(0), images, train=False)
        return _at_test(key, setting.model, variables, images)

    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(run)(key, jax.ShapeDtypeStruct((1, *setting.image_shape), jnp.float32)).jaxpr
    return any(v is traced.invars[0] for eqn in traced.eqns for v in eqn.invars)
