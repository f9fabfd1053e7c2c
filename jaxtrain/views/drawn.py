"""Views that are drawn: augmentations of the image, and what the model itself draws.

The key of a view is a function of the seed, the example's place in its split and the number of the view, so the draws
do not depend on batches or devices.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from jaxtrain.augment.pipeline import pipeline
from jaxtrain.config.annotations import PositiveInt
from jaxtrain.config.spec import AugmentationSpec
from jaxtrain.models.outputs import logits_of
from jaxtrain.nn.marginalization import draw_outputs
from jaxtrain.views.base import Examples, Group, Setting, Views


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


def draws(k: PositiveInt) -> Views:
    """`k` draws of all that the model draws in training, for each example its own: Monte Carlo dropout.

    Batch normalization uses its running statistics. What a layer draws for a whole batch it draws for an example here.

    Args:
      k: draws for each image.
    """

    def prepare(examples: Examples) -> tuple[jax.Array, jax.Array]:
        return examples.images, examples.keys

    def view(prepared: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, keys = prepared
        return images, of_view(keys, number)

    return lambda setting: (Group((1 / k,) * k, prepare, view, _drawn),)


def _drawn(model: nn.Module, variables: Mapping[str, Any], seen: tuple[jax.Array, jax.Array]) -> jax.Array:
    images, keys = seen

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        return logits_of(draw_outputs(key, model, variables, image[None]))[0]

    return jax.vmap(one)(keys, images)
