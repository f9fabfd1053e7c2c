"""Catalog entries of DenseNet, FractalNet and the vision transformer."""

from typing import Any

from jaxtrain.models.catalog.entries import cifar_reference, entry, reference

_DENSE = "Huang et al. 2017, Densely connected convolutional networks, arXiv:1608.06993"
_FRACTAL = "Larsson et al. 2017, FractalNet, arXiv:1605.07648"
_VIT = "Dosovitskiy et al. 2021, An image is worth 16x16 words, arXiv:2010.11929"

_DENSE_COUNTS = {
    121: (7_978_856, 2_834_161_664),
    161: (28_681_000, 7_727_907_072),
    169: (14_149_480, 3_359_843_328),
    201: (20_013_928, 4_291_365_888),
}
DENSENETS = {
    "densenet": entry(
        "densenets:densenet",
        "DenseNet-BC for 224x224 images: depth 121, 161, 169 or 201",
        _DENSE,
        reference(*_DENSE_COUNTS[121]),
    ),
    **{
        f"densenet{depth}": entry(
            "densenets:densenet", f"DenseNet-{depth} for 224x224 images", _DENSE, reference(*counts), depth=depth
        )
        for depth, counts in _DENSE_COUNTS.items()
    },
    "cifar_densenet": entry(
        "densenets:cifar_densenet",
        "DenseNet for 32x32 images, of any depth and growth rate",
        _DENSE,
        cifar_reference(769_162, 287_929_692),
    ),
    "densenet_bc_100_12": entry(
        "densenets:cifar_densenet",
        "DenseNet-BC for 32x32 images, of 100 layers and growth rate 12",
        _DENSE,
        cifar_reference(769_162, 287_929_692),
        depth=100,
        growth=12,
    ),
    "densenet_40_12": entry(
        "densenets:cifar_densenet",
        "DenseNet for 32x32 images, of 40 layers and growth rate 12",
        _DENSE,
        cifar_reference(1_019_722, 264_812_928),
        depth=40,
        growth=12,
        bottleneck=False,
        compression=1.0,
    ),
}

FRACTALNETS = {
    "fractalnet": entry(
        "fractalnets:fractalnet",
        "FractalNet-20 for 32x32 images: five blocks of three columns",
        _FRACTAL,
        cifar_reference(33_734_922, 845_222_912),
    ),
    "fractalnet40": entry(
        "fractalnets:fractalnet",
        "FractalNet-40 for 32x32 images: five blocks of four columns",
        _FRACTAL,
        cifar_reference(76_128_714, 2_036_077_568),
        columns=4,
    ),
}

_SMALL_VIT: dict[str, Any] = {"width": 384, "depth": 12, "heads": 6, "mlp_width": 1536}
_LARGE_VIT: dict[str, Any] = {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096}
VITS = {
    "vit": entry("vits:vit", "vision transformer of any size", _VIT, reference(86_567_656, 17_563_828_224)),
    "vit_s_16": entry(
        "vits:vit", "vision transformer ViT-S/16", _VIT, reference(22_050_664, 4_598_882_304), patch=16, **_SMALL_VIT
    ),
    "vit_b_16": entry("vits:vit", "vision transformer ViT-B/16", _VIT, reference(86_567_656, 17_563_828_224), patch=16),
    "vit_b_32": entry("vits:vit", "vision transformer ViT-B/32", _VIT, reference(88_224_232, 4_409_186_304), patch=32),
    "vit_l_16": entry(
        "vits:vit", "vision transformer ViT-L/16", _VIT, reference(304_326_632, 61_554_712_576), patch=16, **_LARGE_VIT
    ),
}
