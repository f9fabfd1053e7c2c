"""Flips that alternate: an image is seen once as it is and once mirrored in any two epochs that follow each other."""

import jax

from jaxtrain.augment.example_epochs import current_sighting
from jaxtrain.augment.geometry import Augmentation, flip_lr_given


def alternating_flip_given(first: jax.Array, epoch: jax.Array, image: jax.Array) -> jax.Array:
    """`image[H, W, C]`, mirrored left to right in even epochs if the scalar `first` is true, else in odd ones."""
    return flip_lr_given(first ^ (epoch % 2 == 1), image)


def alternating_flip_lr() -> Augmentation:
    """Mirrors half of the images, drawn once, in the even epochs, and the other half in the odd ones.

    Jordan 2024, arXiv:2404.00498, section 3.6: a random flip shows half of the images the same way in two epochs on
    end, this one none. Where no epoch is known, as in test-time views, it is a random flip.
    """

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        sighting = current_sighting()
        if sighting is None:
            return flip_lr_given(jax.random.bernoulli(key), image)
        return alternating_flip_given(jax.random.bernoulli(sighting.key), sighting.epoch, image)

    return augment
