"""Decode transforms: crops, scaling and flips of images of any size, applied on the host while they are decoded."""

from jaxtrain.registry import Entry, Registry, publish_factories

_JITTER = "Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.1; He et al. 2015, arXiv:1512.03385, section 3.4"

DECODE_TRANSFORMS = Registry(
    "decode_transform",
    {
        "resize_short": Entry(
            "jaxtrain.augment.decode.sizes:resize_short",
            "scales the shorter side to a length, or to a random length between two (scale jitter)",
            _JITTER,
        ),
        "resize": Entry(
            "jaxtrain.augment.decode.sizes:resize", "scales to a height and a width; the aspect ratio may change"
        ),
        "fit": Entry(
            "jaxtrain.augment.decode.sizes:fit",
            "scales, aspect ratio kept, to just cover a height and a width, and crops the center",
        ),
        "flip_lr": Entry(
            "jaxtrain.augment.decode.sizes:flip_lr",
            "flips left to right with a given probability",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "center_crop": Entry("jaxtrain.augment.decode.crops:center_crop", "crops the center"),
        "random_crop": Entry(
            "jaxtrain.augment.decode.crops:random_crop",
            "crops a fixed size at a random position",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "random_resized_crop": Entry(
            "jaxtrain.augment.decode.crops:random_resized_crop",
            "crops a random area and aspect ratio, and scales it to a fixed size",
            "Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842, section 6",
        ),
    },
)

create, names = DECODE_TRANSFORMS.create, DECODE_TRANSFORMS.names
publish_factories(__name__, DECODE_TRANSFORMS)
