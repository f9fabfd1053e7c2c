"""Published errors of the models in the catalog, in percent; charts show the first entry of each model.

An entry has the test set, the metric ("top-1" or "top-5" error), the error, the protocol and the source. "1 crop" is
one net on the center crop of each image; "1 net" does not say how many crops. The protocol states where the published
net differs from the model here.
"""

from collections.abc import Mapping
from typing import Any

PublishedError = Mapping[str, Any]

_TORCHVISION = "torchvision's weights IMAGENET1K_V1"
_CAFFE = "Caffe's reference model"
_ALEX = "Krizhevsky et al. 2012"
_ZF = "Zeiler & Fergus 2014, table 2"
_VGG = "Simonyan & Zisserman 2015"
_INCEPTION = "Szegedy et al. 2015"
_RESNET = "He et al. 2015"
_RESNEXT = "Xie et al. 2017"
_WIDE = "Zagoruyko & Komodakis 2016"
_DENSE = "Huang et al. 2017"
_PREACT = "He et al. 2016"
_DEPTH = "Huang et al. 2016"
_FRACTAL = "Larsson et al. 2017"


def _entry(data: str, metric: str, error: float, protocol: str, source: str) -> PublishedError:
    return {"data": data, "metric": metric, "error": error, "protocol": protocol, "source": source}


def _imagenet(top1: float | None, top5: float | None, protocol: str, source: str) -> tuple[PublishedError, ...]:
    """Return the entries for the validation set of ImageNet (ILSVRC 2012)."""
    errors = {"top-1": top1, "top-5": top5}
    return tuple(_entry("ImageNet", k, v, protocol, source) for k, v in errors.items() if v is not None)


def _cifar(ten: float, hundred: float | None, source: str, protocol: str = "1 net") -> tuple[PublishedError, ...]:
    """Return the entries for CIFAR-10 and CIFAR-100 with the usual augmentation: shifts and flips."""
    errors = {"CIFAR-10": ten, "CIFAR-100": hundred}
    return tuple(_entry(k, "top-1", v, protocol, source) for k, v in errors.items() if v is not None)


def _resnet(depth: int) -> tuple[PublishedError, ...]:
    """Return the entries of a ResNet; the models here have the stride in the 3x3 convolution, the paper's in a 1x1."""
    ours, one, ten, multi = {
        50: (23.87, (24.7, 7.8), (22.85, 6.71), (20.74, 5.25)),
        101: (22.63, (23.6, 7.1), (21.75, 6.05), (19.87, 4.60)),
        152: (21.69, (23.0, 6.7), (21.43, 5.71), (19.38, 4.49)),
    }[depth]
    variant = "stride in the 1x1"
    return (
        *_imagenet(ours, None, "1 crop", _TORCHVISION),
        *_imagenet(*one, f"1 crop, {variant}", _RESNET),
        *_imagenet(*ten, f"10 crops, {variant}", _RESNET),
        *_imagenet(*multi, f"multi-scale, {variant}", _RESNET),
    )


_IMAGENET = {
    "alexnet": (
        *_imagenet(42.9, 19.8, "1 crop", _CAFFE),
        *_imagenet(40.7, 18.2, "1 net", _ALEX),
        *_imagenet(38.1, 16.4, "5 nets", _ALEX),
    ),
    "zfnet": _imagenet(38.4, 16.5, "1 net", _ZF),
    "zfnet_wide": _imagenet(37.5, 16.0, "1 net", _ZF),
    "vgg11": _imagenet(30.98, 11.37, "1 crop", _TORCHVISION),
    "vgg13": (*_imagenet(30.07, 10.75, "1 crop", _TORCHVISION), *_imagenet(28.2, 9.6, "multi-scale", _VGG)),
    "vgg16": (*_imagenet(28.41, 9.62, "1 crop", _TORCHVISION), *_imagenet(24.8, 7.5, "multi-scale", _VGG)),
    "vgg19": _imagenet(27.62, 9.12, "1 crop", _TORCHVISION),
    "vgg16_bn": _imagenet(26.64, 8.48, "1 crop", _TORCHVISION),
    "googlenet": (*_imagenet(31.3, 11.1, "1 net", _CAFFE), *_imagenet(None, 6.67, "7 nets, 144 crops", _INCEPTION)),
    "googlenet_bn": _imagenet(30.22, 10.47, "1 crop", _TORCHVISION),
    "resnet18": (*_imagenet(30.24, None, "1 crop", _TORCHVISION), *_imagenet(27.88, None, "10 crops", _RESNET)),
    "resnet34": (*_imagenet(26.69, None, "1 crop", _TORCHVISION), *_imagenet(24.52, None, "10 crops", _RESNET)),
    **{f"resnet{depth}": _resnet(depth) for depth in (50, 101, 152)},
    "plain18": _imagenet(27.94, None, "10 crops", _RESNET),
    "plain34": _imagenet(28.54, None, "10 crops", _RESNET),
    "resnext50_32x4d": (*_imagenet(22.38, None, "1 crop", _TORCHVISION), *_imagenet(22.2, None, "1 net", _RESNEXT)),
    "resnext101_32x4d": _imagenet(21.2, None, "1 net", _RESNEXT),
    "wide_resnet50_2": (*_imagenet(21.53, None, "1 crop", _TORCHVISION), *_imagenet(21.9, 5.79, "1 net", _WIDE)),
    "densenet121": _imagenet(25.0, None, "1 net", _DENSE),
    "densenet169": _imagenet(23.6, None, "1 net", _DENSE),
    "densenet201": _imagenet(22.5, None, "1 net", _DENSE),
    "densenet161": _imagenet(22.2, None, "1 net", _DENSE),
}

_CIFAR = {
    **{
        f"resnet{depth}": _cifar(error, None, _RESNET)
        for depth, error in ((20, 8.75), (32, 7.51), (44, 7.17), (56, 6.97), (1202, 7.93))
    },
    "resnet110": (*_cifar(6.43, None, _RESNET, "best of 5"), *_cifar(6.61, None, _RESNET, "mean of 5")),
    "preact_resnet110": _cifar(6.37, None, _PREACT),
    "preact_resnet164": _cifar(5.46, 24.33, _PREACT),
    "preact_resnet1001": (*_cifar(4.92, 22.71, _PREACT), *_cifar(4.62, None, _PREACT, "batches of 64")),
    "stochastic_depth110": _cifar(5.23, 24.58, _DEPTH),
    "wrn_16_4": _cifar(5.02, None, _WIDE),
    "wrn_40_4": _cifar(4.53, 21.18, _WIDE),
    "wrn_16_8": _cifar(4.27, 20.43, _WIDE),
    "wrn_28_10": (*_cifar(4.00, 19.25, _WIDE), *_cifar(3.89, 18.85, _WIDE, "dropout of 0.3")),
    "resnext29_8x64d": _cifar(3.65, 17.77, _RESNEXT),
    "resnext29_16x64d": _cifar(3.58, 17.31, _RESNEXT),
    "densenet_40_12": _cifar(5.24, 24.42, _DENSE),
    "densenet_bc_100_12": _cifar(4.51, 22.27, _DENSE),
    "fractalnet": (
        *_cifar(4.60, 23.73, _FRACTAL),
        *_cifar(5.22, 23.30, _FRACTAL, "no drop-path and dropout"),
        *_cifar(4.68, 24.32, _FRACTAL, "deepest column alone"),
    ),
}

PUBLISHED: Mapping[str, tuple[PublishedError, ...]] = {**_IMAGENET, **_CIFAR}
"""Published errors by the name of the model in the catalog."""
