"""Augmentations: keyed pure functions `(key, image) -> image` that run on the device, inside the jitted step."""

from collections.abc import Callable
from typing import Any

from jaxtrain.augment.catalog import ROWS
from jaxtrain.tables import Info, Table

AUGMENTATIONS = Table(
    "augmentation",
    {
        "flip_lr": Info(
            factory="jaxtrain.augment.geometry:flip_lr",
            description="mirrors the image left to right with a given probability",
            paper="Krizhevsky et al. 2012 (reflections), He et al. 2016",
        ),
        "pad_crop": Info(
            factory="jaxtrain.augment.geometry:pad_crop",
            description="pads every side and crops back to the size at a random offset",
            paper="He et al. 2016, section 4.2 (4 pixels); Zagoruyko & Komodakis 2016 (reflect)",
        ),
        **ROWS,
    },
)

create, names = AUGMENTATIONS.create, AUGMENTATIONS.names


def __getattr__(name: str) -> Callable[..., Any]:
    return AUGMENTATIONS.attribute(__name__, name)
