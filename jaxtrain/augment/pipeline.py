"""A list of augmentations as one function of a batch, with a key of its own for each example and each place."""

from collections.abc import Callable, Sequence

import jax

from jaxtrain.augment.example_epochs import Sighting, current_sighting, seen
from jaxtrain.augment.geometry import Augmentation
from jaxtrain.random import example_keys

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

    def one_of(key: jax.Array, image: jax.Array, sighting: Sighting) -> jax.Array:
        with seen(sighting):
            return one(key, image)

    def batch(key: jax.Array, images: jax.Array) -> jax.Array:
        if not augmentations:
            return images
        sighting = current_sighting()
        if sighting is None:
            return jax.vmap(one)(example_keys(key, images), images)
        return jax.vmap(one_of)(example_keys(key, images), images, sighting)

    return batch
