"""Rows of the table of augmentations, by what they change."""

import dataclasses

from jaxtrain.registry import Info

_ALEX = "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks"


def _row(factory: str, description: str, paper: str = "") -> Info:
    return Info(f"jaxtrain.augment.{factory}", description, paper)


GEOMETRY = {
    "flip_ud": _row("geometry:flip_ud", "mirrors the image upside down with a given probability"),
    "alternating_flip_lr": dataclasses.replace(
        _row(
            "geometry:alternating_flip_lr",
            "mirrors half of the images in even epochs and the other half in odd ones",
            "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498, section 3.6",
        ),
        needs="sightings",
    ),
    "translate": _row("affine_maps:translate", "moves the image by fractions of its sides"),
    "rotate": _row("affine_maps:rotate", "turns the image about its center"),
    "scale": _row("affine_maps:scale", "zooms in or out"),
    "stretch": _row("affine_maps:stretch", "changes width over height at the same area"),
    "shear": _row("affine_maps:shear", "slants the image along both axes"),
    "affine": _row("affine_maps:affine", "turns, moves, zooms, stretches and shears in one resampling"),
    "projective": _row("distortion:projective", "shows the image from aside: moves its corners inwards"),
    "lens": _row(
        "distortion:lens", "distorts radially, as a lens does", "Brown 1966, Decentering distortion of lenses"
    ),
}

COLOR = {
    "brightness": _row("color:brightness", "multiplies all pixels by a factor"),
    "contrast": _row("color:contrast", "moves pixels to or from the mean luma"),
    "saturation": _row("color:saturation", "moves pixels to or from their luma"),
    "hue": _row("color:hue", "turns all hues"),
    "random_gray": _row("color:random_gray", "takes the color away with a given probability"),
    "color_jitter": _row("jitter:color_jitter", "brightness, contrast, saturation and hue in a random order"),
    "fancy_pca": dataclasses.replace(
        _row("principal_colors:fancy_pca", "shifts colors along the principal axes of the training split", _ALEX),
        supplied=("eigenvalues", "eigenvectors"),
    ),
    "gamma": _row("tones:gamma", "raises pixels in [0, 1] to a power"),
    "solarize": _row("tones:solarize", "inverts bright pixels"),
    "posterize": _row("tones:posterize", "keeps the first bits of each value"),
    "invert": _row("tones:invert", "makes a negative"),
    "autocontrast": _row("tones:autocontrast", "stretches each channel to the full range"),
    "equalize": _row("tones:equalize", "makes the histogram of each channel flat"),
    "blur": _row("sharpness:blur", "blurs with a Gaussian of random width"),
    "sharpen": _row("sharpness:sharpen", "smooths or sharpens by a factor"),
}

OCCLUSION = {
    "cutout": _row(
        "occlusion:cutout",
        "takes a square out, part of which may lie outside",
        "DeVries & Taylor 2017, Improved regularization of convolutional neural networks with cutout, arXiv:1708.04552",
    ),
    "random_erasing": _row(
        "occlusion:random_erasing",
        "replaces a rectangle of random area and aspect",
        "Zhong et al. 2017, Random erasing data augmentation, arXiv:1708.04896",
    ),
}

POLICIES = {
    "autoaugment": _row(
        "policies:autoaugment",
        "one of 25 pairs of operations found on CIFAR-10, ImageNet or SVHN",
        "Cubuk et al. 2019, AutoAugment: Learning augmentation policies from data, arXiv:1805.09501",
    ),
    "randaugment": _row(
        "policies:randaugment",
        "n of 14 operations with one magnitude",
        "Cubuk et al. 2020, RandAugment, arXiv:1909.13719",
    ),
    "trivialaugment": _row(
        "policies:trivialaugment",
        "one of 14 operations with a random magnitude, wide ranges",
        "Müller & Hutter 2021, TrivialAugment, arXiv:2103.10158",
    ),
    "augmix": _row(
        "chains:augmix", "mixes the image with chains of operations", "Hendrycks et al. 2020, AugMix, arXiv:1912.02781"
    ),
}

ROWS = GEOMETRY | COLOR | OCCLUSION | POLICIES
