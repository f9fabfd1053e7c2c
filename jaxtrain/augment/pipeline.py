"""A list of augmentations as one function of a batch, with a key of its own for each example and each place."""

from collections.abc import Callable, Sequence

import jax

from jaxtrain.augment.geometry import Augmentation
from jaxtrain.random import example_keys
from jaxtrain.step_context import ExampleEpochs, current_context, narrow_context

BatchAugmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""`(key, images[N, H, W, C]) -> images[N, H, W, C]`."""


def pipeline(augmentations: Sequence[Augmentation]) -> BatchAugmentation:
    """Applies `augmentations` in order to each image of a batch.

    The draw for example i at place p depends on `(key, i, p)` alone, so it is the same for any batch sharding.
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        for place, augment in enumerate(augmentations):
            image = augment(jax.random.fold_in(key, place), image)
        return image

    def one_seen(key: jax.Array, image: jax.Array, seen: ExampleEpochs) -> jax.Array:
        with narrow_context(epochs=seen):
            return one(key, image)

    def batch(key: jax.Array, images: jax.Array) -> jax.Array:
        if not augmentations:
            return images
        epochs = current_context().epochs
        if epochs is None:
            return jax.vmap(one)(example_keys(key, images), images)
        return jax.vmap(one_seen)(example_keys(key, images), images, epochs)

    return batch
