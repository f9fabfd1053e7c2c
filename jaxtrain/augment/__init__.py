"""Augmentations: keyed pure functions `(key, image) -> image` that run on the device, inside the jitted step."""

from jaxtrain.augment.catalog import ROWS
from jaxtrain.registry import Entry, Registry, publish_factories

AUGMENTATIONS = Registry(
    "augmentation",
    {
        "flip_lr": Entry(
            "jaxtrain.augment.geometry:flip_lr",
            "flips the image left to right with a given probability",
            "Krizhevsky et al. 2012 (reflections), He et al. 2016",
        ),
        "pad_crop": Entry(
            "jaxtrain.augment.geometry:pad_crop",
            "pads every side and crops to the original size at a random offset",
            "He et al. 2016, section 4.2 (4 pixels); Zagoruyko & Komodakis 2016 (reflect)",
        ),
        **ROWS,
    },
)

create, names = AUGMENTATIONS.create, AUGMENTATIONS.names
publish_factories(__name__, AUGMENTATIONS)
