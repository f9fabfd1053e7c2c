"""The composition of a list of augmentations to one function of a batch."""

from collections.abc import Callable, Sequence

import jax

from jaxtrain.augment.geometry import Augmentation
from jaxtrain.random import example_keys
from jaxtrain.step_context import ExampleEpochs, current_context, narrow_context

BatchAugmentation = Callable[[jax.Array, jax.Array], jax.Array]
"""A function `(key, images[N, H, W, C]) -> images[N, H, W, C]`."""


def pipeline(augmentations: Sequence[Augmentation]) -> BatchAugmentation:
    """Return a function that applies `augmentations` in order to each image of a batch.

    The draw for example i and augmentation p depends only on `(key, i, p)`, so it is the same for any batch sharding.

    Example:
      >>> import jax, jax.numpy as jnp, jaxtrain
      >>> from jaxtrain.augment.pipeline import pipeline
      >>> augment = pipeline([jaxtrain.augment.pad_crop(1, mode="edge"), jaxtrain.augment.flip_lr()])
      >>> images = jnp.broadcast_to(jnp.array([1, 2, 3], jnp.uint8).reshape(1, 1, 3, 1), (4, 1, 3, 1))
      >>> jax.jit(augment)(jax.random.key(0), images)[:, 0, :, 0].tolist()
      [[3, 3, 2], [3, 3, 2], [1, 2, 3], [1, 2, 3]]
    """

    def augment_one(key: jax.Array, image: jax.Array) -> jax.Array:
        for index, augment in enumerate(augmentations):
            image = augment(jax.random.fold_in(key, index), image)
        return image

    def augment_in_context(key: jax.Array, image: jax.Array, epochs: ExampleEpochs) -> jax.Array:
        with narrow_context(epochs=epochs):
            return augment_one(key, image)

    def augment_batch(key: jax.Array, images: jax.Array) -> jax.Array:
        if not augmentations:
            return images
        epochs = current_context().epochs
        if epochs is None:
            return jax.vmap(augment_one)(example_keys(key, images), images)
        return jax.vmap(augment_in_context)(example_keys(key, images), images, epochs)

    return augment_batch
