"""Augmentations on the host: what is decoded of a picture of any size, before the device sees it."""

from jaxtrain.registry import Info, Table, publish_factories

_JITTER = "Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.1; He et al. 2015, arXiv:1512.03385, section 3.4"

HOST_AUGMENTATIONS = Table(
    "host_augmentation",
    {
        "resize_short": Info(
            "jaxtrain.augment.decode.sizes:resize_short",
            "scales the shorter side to a length, or to a random one between two: scale jitter",
            _JITTER,
        ),
        "resize": Info(
            "jaxtrain.augment.decode.sizes:resize", "scales to a height and a width, whatever the aspect was"
        ),
        "fit": Info(
            "jaxtrain.augment.decode.sizes:fit",
            "scales until a height and a width are just covered, and takes the center",
        ),
        "flip_lr": Info(
            "jaxtrain.augment.decode.sizes:flip_lr",
            "mirrors left to right with a given probability",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "center_crop": Info("jaxtrain.augment.decode.crops:center_crop", "takes the center"),
        "random_crop": Info(
            "jaxtrain.augment.decode.crops:random_crop",
            "takes a part of fixed size at a random place",
            "Krizhevsky et al. 2012, section 4.1",
        ),
        "random_resized_crop": Info(
            "jaxtrain.augment.decode.crops:random_resized_crop",
            "takes a part of random area and aspect, and scales it to one size",
            "Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842, section 6",
        ),
    },
)

create, names = HOST_AUGMENTATIONS.create, HOST_AUGMENTATIONS.names
publish_factories(__name__, HOST_AUGMENTATIONS)
