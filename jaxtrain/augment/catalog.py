"""Registry entries of the augmentations, by what they change."""

import dataclasses

from jaxtrain.registry import Entry

_ALEX = "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks"


def _row(factory: str, description: str, paper: str = "") -> Entry:
    """Return an entry for a factory of `jaxtrain.augment`."""
    return Entry(f"jaxtrain.augment.{factory}", description, paper)


GEOMETRY = {
    "flip_ud": _row("geometry:flip_ud", "flips the image upside down with a given probability"),
    "alternating_flip_lr": dataclasses.replace(
        _row(
            "geometry:alternating_flip_lr",
            "flips half of the images in even epochs and the other half in odd epochs",
            "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498, section 3.6",
        ),
        requires="example epochs",
    ),
    "translate": _row("affine_maps:translate", "shifts the image by random fractions of its sides"),
    "rotate": _row("affine_maps:rotate", "rotates the image about its center by a random angle"),
    "scale": _row("affine_maps:scale", "zooms in or out by a random factor"),
    "stretch": _row("affine_maps:stretch", "changes width over height by a random factor, at the same area"),
    "shear": _row("affine_maps:shear", "shears the image along both axes by random angles"),
    "affine": _row("affine_maps:affine", "rotates, shifts, zooms, stretches and shears in one resampling"),
    "projective": _row("distortion:projective", "random perspective: moves each corner inwards"),
    "lens": _row(
        "distortion:lens",
        "radial lens distortion: barrel or pincushion",
        "Brown 1966, Decentering distortion of lenses",
    ),
}

COLOR = {
    "brightness": _row("color:brightness", "multiplies all pixels by a random factor"),
    "contrast": _row("color:contrast", "blends the image with its mean luma by a random factor"),
    "saturation": _row("color:saturation", "blends each pixel with its luma by a random factor"),
    "hue": _row("color:hue", "rotates all hues by a random fraction of the color circle"),
    "random_gray": _row("color:random_gray", "replaces the colors by luma with a given probability"),
    "color_jitter": _row("jitter:color_jitter", "changes brightness, contrast, saturation and hue in a random order"),
    "fancy_pca": dataclasses.replace(
        _row(
            "principal_colors:fancy_pca", "shifts colors along the principal axes of the training split's colors", _ALEX
        ),
        supplied=("eigenvalues", "eigenvectors"),
    ),
    "gamma": _row("tones:gamma", "raises pixels in [0, 1] to a random power"),
    "solarize": _row("tones:solarize", "inverts pixels at or above a threshold"),
    "posterize": _row("tones:posterize", "keeps the first bits of each value"),
    "invert": _row("tones:invert", "inverts the image"),
    "autocontrast": _row("tones:autocontrast", "stretches each channel to the full range"),
    "equalize": _row("tones:equalize", "flattens the histogram of each channel"),
    "blur": _row("sharpness:blur", "blurs with a Gaussian of random standard deviation"),
    "sharpen": _row("sharpness:sharpen", "smooths or sharpens by a random factor"),
}

OCCLUSION = {
    "cutout": _row(
        "occlusion:cutout",
        "replaces a square, part of which may lie outside the image",
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
        "applies one of 25 pairs of operations, found on CIFAR-10, ImageNet or SVHN",
        "Cubuk et al. 2019, AutoAugment: Learning augmentation policies from data, arXiv:1805.09501",
    ),
    "randaugment": _row(
        "policies:randaugment",
        "applies n of 14 operations, all with the same magnitude",
        "Cubuk et al. 2020, RandAugment, arXiv:1909.13719",
    ),
    "trivialaugment": _row(
        "policies:trivialaugment",
        "applies one of 14 operations with a random magnitude from a wide range",
        "Müller & Hutter 2021, TrivialAugment, arXiv:2103.10158",
    ),
    "augmix": _row(
        "chains:augmix",
        "averages the image and several chains of operations on it",
        "Hendrycks et al. 2020, AugMix, arXiv:1912.02781",
    ),
}

ROWS = GEOMETRY | COLOR | OCCLUSION | POLICIES
