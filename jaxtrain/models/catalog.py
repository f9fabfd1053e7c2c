"""The table of models. A family has a row with all of its options, and one for each published variant.

`facts` are the published input, the number of classes, parameters and multiply-adds (those of convolutions, dense
layers and attention for one image); a test holds every row to them. `published` among them are errors, where there are
any.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxtrain.models.published import PUBLISHED
from jaxtrain.tables import Info, Table

_RESNET = "He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385"
_PREACT = "He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027"
_WIDE = "Zagoruyko & Komodakis 2016, Wide residual networks, arXiv:1605.07146"
_RESNEXT = "Xie et al. 2017, Aggregated residual transformations for deep neural networks, arXiv:1611.05431"
_DEPTH = "Huang et al. 2016, Deep networks with stochastic depth, arXiv:1603.09382"
_DENSE = "Huang et al. 2017, Densely connected convolutional networks, arXiv:1608.06993"
_VGG = "Simonyan & Zisserman 2015, Very deep convolutional networks, arXiv:1409.1556"
_ALEX = "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks"
_ZF = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, arXiv:1311.2901"
_INCEPTION = "Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842"
_BN_INCEPTION = "Ioffe & Szegedy 2015, Batch normalization, arXiv:1502.03167"
_FRACTAL = "Larsson et al. 2017, FractalNet, arXiv:1605.07648"
_VIT = "Dosovitskiy et al. 2021, An image is worth 16x16 words, arXiv:2010.11929"
_POOLING = "Graham 2014, Fractional max-pooling, arXiv:1412.6071"
_LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"


def _facts(
    parameters: int, multiply_adds: int, side: int = 224, channels: int = 3, num_classes: int = 1000
) -> dict[str, Any]:
    return {
        "input": (side, side, channels),
        "num_classes": num_classes,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
    }


def _cifar(parameters: int, multiply_adds: int) -> dict[str, Any]:
    return _facts(parameters, multiply_adds, side=32, num_classes=10)


def _row(
    factory: str, description: str, paper: str, facts: Mapping[str, Any], later: tuple[str, ...] = (), **preset: Any
) -> Info:
    return Info(
        factory=f"jaxtrain.models.{factory}",
        description=description,
        paper=paper,
        preset=preset,
        supplied=("num_classes",),
        later=later,
        facts=facts,
    )


_SMALL = {
    "linear": _row(
        "perceptron:linear",
        "softmax regression: one dense layer on the pixels",
        "",
        _facts(7_850, 7_840, 28, 1, 10),
        later=("dtype", "param_dtype"),
    ),
    "mlp": _row(
        "perceptron:mlp",
        "multilayer perceptron: dense layers of given widths, with dropout or DropConnect where wanted",
        "Rumelhart et al. 1986; dropout: Srivastava et al. 2014; DropConnect: Wan et al. 2013",
        _facts(669_706, 668_672, 28, 1, 10),
        later=("dropout_kind", "dropconnect_rate", "dropconnect_test", "kernel_init", "dtype", "param_dtype"),
    ),
    "maxout_mlp": _row(
        "perceptron:maxout_mlp",
        "perceptron whose units are maxima of 5 linear maps, for MNIST",
        "Goodfellow et al. 2013, Maxout networks, arXiv:1302.4389",
        _facts(1_233_610, 1_231_200, 28, 1, 10),
    ),
    "lenet5": _row(
        "lenet:lenet5",
        "LeNet-5, the modern simplification: full C3, plain pooling, softmax output; 32x32 input",
        _LENET,
        _facts(61_706, 416_520, 32, 1, 10),
        later=("kernel_init", "dtype", "param_dtype"),
    ),
    "lenet5_1998": _row(
        "lenet_1998:lenet5_1998",
        "LeNet-5 as published: sparse C3, trainable subsampling, distances to templates; 32x32 input",
        _LENET,
        # 340,908 connections; the sparse layer is computed as a full one
        _facts(60_000, 415_680, 32, 1, 10),
    ),
}

_FRACTIONAL = {
    "fractional_cnn": _row(
        "fractional_cnns:fractional_cnn",
        "fractional max pooling by sqrt(2), six times, for MNIST; 36x36 input",
        _POOLING,
        _facts(519_946, 20_369_024, 36, 1, 10),
    ),
    "fractional_cnn_cifar": _row(
        "fractional_cnns:fractional_cnn",
        "fractional max pooling by cbrt(2), twelve times, for CIFAR; 94x94 input",
        _POOLING,
        _facts(12_689_482, 2_378_980_864, 94, 3, 10),
        width=64,
        blocks=12,
        ratio=2 ** (1 / 3),
    ),
}

_FIRST = {
    "alexnet": _row(
        "alexnets:alexnet", "AlexNet in two towers; 227x227 input", _ALEX, _facts(60_965_224, 724_406_816, 227)
    ),
    "alexnet_one_tower": _row(
        "alexnets:alexnet", "AlexNet in one tower", _ALEX, _facts(62_378_344, 1_135_256_096, 227), towers=1
    ),
    "zfnet": _row("alexnets:zfnet", "ZFNet, as drawn in figure 3", _ZF, _facts(62_357_608, 1_168_032_896)),
    "zfnet_wide": _row(
        "alexnets:zfnet", "ZFNet with 512, 1,024 and 512 channels", _ZF, _facts(107_627_624, 2_476_704_896), wide=True
    ),
    "googlenet": _row(
        "googlenets:googlenet",
        "GoogLeNet with its two auxiliary heads, 6,998,552 parameters without them",
        _INCEPTION,
        _facts(13_378_280, 1_582_671_872),
    ),
    "googlenet_bn": _row(
        "googlenets:googlenet",
        "GoogLeNet with batch normalization and 3x3 for 5x5, without auxiliary heads; torchvision's",
        _BN_INCEPTION,
        _facts(6_624_904, 1_498_376_192),
        norm="batch",
        epsilon=1e-3,
        window=3,
        last_pool=2,
        auxiliary=False,
    ),
}

_VGG_COUNTS = {
    11: ("A", 132_863_336, 132_868_840, 7_609_090_048),
    13: ("B", 133_047_848, 133_053_736, 11_308_466_176),
    16: ("D", 138_357_544, 138_365_992, 15_470_264_320),
    19: ("E", 143_667_240, 143_678_248, 19_632_062_464),
}
_VGGS = {
    "vgg": _row("vggs:vgg", "VGG of any configuration", _VGG, _facts(138_357_544, 15_470_264_320)),
    "vgg16_c": _row(
        "vggs:vgg",
        "VGG configuration C: 16 layers, 1x1 in the third convolutions",
        _VGG,
        _facts(133_638_952, 11_770_888_192),
        configuration="C",
    ),
    **{
        f"vgg{depth}": _row(
            "vggs:vgg",
            f"VGG configuration {letter}: {depth} layers",
            _VGG,
            _facts(plain, multiply_adds),
            configuration=letter,
        )
        for depth, (letter, plain, _, multiply_adds) in _VGG_COUNTS.items()
    },
    **{
        f"vgg{depth}_bn": _row(
            "vggs:vgg",
            f"VGG configuration {letter} with batch normalization",
            _VGG,
            _facts(normed, multiply_adds),
            configuration=letter,
            norm="batch",
        )
        for depth, (letter, _, normed, multiply_adds) in _VGG_COUNTS.items()
    },
}

_RESNET_COUNTS = {
    18: (11_689_512, 1_814_073_344),
    34: (21_797_672, 3_663_761_408),
    50: (25_557_032, 4_089_184_256),
    101: (44_549_160, 7_801_405_440),
    152: (60_192_808, 11_513_626_624),
}
_RESNETS = {
    "resnet": _row(
        "resnets:resnet", "residual network for large images, any option", _RESNET, _facts(*_RESNET_COUNTS[50])
    ),
    **{
        f"resnet{depth}": _row(
            "resnets:resnet", f"residual network of {depth} layers", _RESNET, _facts(*counts), depth=depth
        )
        for depth, counts in _RESNET_COUNTS.items()
    },
    "plain18": _row(
        "resnets:resnet",
        "the plain net of 18 layers",
        _RESNET,
        _facts(11_515_688, 1_794_805_760),
        depth=18,
        shortcut="none",
    ),
    "plain34": _row(
        "resnets:resnet",
        "the plain net of 34 layers",
        _RESNET,
        _facts(21_623_848, 3_644_493_824),
        depth=34,
        shortcut="none",
    ),
    "resnext50_32x4d": _row(
        "resnets:resnet",
        "ResNeXt-50, 32 groups of 4 channels",
        _RESNEXT,
        _facts(25_028_904, 4_230_479_872),
        depth=50,
        groups=32,
        group_width=4,
    ),
    "resnext101_32x4d": _row(
        "resnets:resnet",
        "ResNeXt-101, 32 groups of 4 channels",
        _RESNEXT,
        _facts(44_177_704, 7_969_996_800),
        depth=101,
        groups=32,
        group_width=4,
    ),
    "wide_resnet50_2": _row(
        "resnets:resnet",
        "ResNet-50 with bottlenecks twice as wide",
        _WIDE,
        _facts(68_883_240, 11_398_021_120),
        depth=50,
        group_width=128,
    ),
}

_CIFAR_COUNTS = {
    20: (269_722, 40_551_040),
    32: (464_154, 68_862_592),
    44: (658_586, 97_174_144),
    56: (853_018, 125_485_696),
    110: (1_727_962, 252_887_680),
}
_CIFAR_RESNETS = {
    "cifar_resnet": _row(
        "cifar_resnets:cifar_resnet",
        "residual network for 32x32 images, any depth 6 n + 2",
        _RESNET,
        _cifar(*_CIFAR_COUNTS[20]),
    ),
    **{
        f"resnet{depth}": _row(
            "cifar_resnets:cifar_resnet",
            f"residual network of {depth} layers for 32x32 images",
            _RESNET,
            _cifar(*counts),
            depth=depth,
        )
        for depth, counts in (*_CIFAR_COUNTS.items(), (1202, (19_421_274, 2_829_238_912)))
    },
    **{
        f"plain{depth}": _row(
            "cifar_resnets:cifar_resnet",
            f"the plain net of {depth} layers for 32x32 images",
            _RESNET,
            _cifar(*counts),
            depth=depth,
            shortcut="none",
        )
        for depth, counts in _CIFAR_COUNTS.items()
    },
    "stochastic_depth110": _row(
        "cifar_resnets:cifar_resnet",
        "ResNet-110 with stochastic depth, from 1 to 0.5",
        _DEPTH,
        _cifar(*_CIFAR_COUNTS[110]),
        depth=110,
        last_survival=0.5,
    ),
    "cifar_resnext": _row(
        "cifar_resnets:cifar_resnext",
        "ResNeXt for 32x32 images, any depth 9 n + 2",
        _RESNEXT,
        _cifar(34_426_698, 5_387_266_048),
    ),
    "resnext29_8x64d": _row(
        "cifar_resnets:cifar_resnext",
        "ResNeXt-29, 8 groups of 64 channels, for 32x32 images",
        _RESNEXT,
        _cifar(34_426_698, 5_387_266_048),
        groups=8,
        group_width=64,
    ),
    "resnext29_16x64d": _row(
        "cifar_resnets:cifar_resnext",
        "ResNeXt-29, 16 groups of 64 channels, for 32x32 images",
        _RESNEXT,
        _cifar(68_155_210, 10_688_866_304),
        groups=16,
        group_width=64,
    ),
}

_WIDE_COUNTS = {
    (16, 4): (2_748_890, 392_612_352),
    (16, 8): (10_961_370, 1_548_145_664),
    (28, 10): (36_479_194, 5_243_328_768),
    (40, 1): (563_930, 83_280_512),
    (40, 2): (2_243_546, 327_599_360),
    (40, 4): (8_949_210, 1_298_582_016),
}
_PREACT_RESNETS = {
    "preact_resnet": _row(
        "preact_resnets:preact_resnet",
        "pre-activation residual network for 32x32 images, any depth",
        _PREACT,
        _cifar(1_730_522, 253_149_824),
    ),
    "preact_resnet110": _row(
        "preact_resnets:preact_resnet",
        "pre-activation ResNet-110, basic blocks, shortcuts without parameters",
        _PREACT,
        _cifar(1_727_962, 252_887_680),
        depth=110,
        shortcut="A",
    ),
    **{
        f"preact_resnet{depth}": _row(
            "preact_resnets:preact_resnet",
            f"pre-activation ResNet-{depth}, bottlenecks",
            _PREACT,
            _cifar(*counts),
            depth=depth,
            kind="bottleneck",
        )
        for depth, counts in ((164, (1_703_258, 247_646_720)), (1001, (10_327_706, 1_490_995_712)))
    },
    "wide_resnet": _row(
        "preact_resnets:wide_resnet",
        "wide residual network for 32x32 images, any depth 6 n + 4 and width",
        _WIDE,
        _cifar(*_WIDE_COUNTS[28, 10]),
    ),
    **{
        f"wrn_{depth}_{width}": _row(
            "preact_resnets:wide_resnet",
            f"wide residual network WRN-{depth}-{width} for 32x32 images",
            _WIDE,
            _cifar(*counts),
            depth=depth,
            width=width,
        )
        for (depth, width), counts in _WIDE_COUNTS.items()
    },
}

_DENSE_COUNTS = {
    121: (7_978_856, 2_834_161_664),
    161: (28_681_000, 7_727_907_072),
    169: (14_149_480, 3_359_843_328),
    201: (20_013_928, 4_291_365_888),
}
_DENSENETS = {
    "densenet": _row("densenets:densenet", "DenseNet-BC for large images", _DENSE, _facts(*_DENSE_COUNTS[121])),
    **{
        f"densenet{depth}": _row("densenets:densenet", f"DenseNet-{depth}", _DENSE, _facts(*counts), depth=depth)
        for depth, counts in _DENSE_COUNTS.items()
    },
    "cifar_densenet": _row(
        "densenets:cifar_densenet",
        "DenseNet for 32x32 images, any depth and growth rate",
        _DENSE,
        _cifar(769_162, 287_929_692),
    ),
    "densenet_bc_100_12": _row(
        "densenets:cifar_densenet",
        "DenseNet-BC of 100 layers and growth rate 12 for 32x32 images",
        _DENSE,
        _cifar(769_162, 287_929_692),
        depth=100,
        growth=12,
    ),
    "densenet_40_12": _row(
        "densenets:cifar_densenet",
        "DenseNet of 40 layers and growth rate 12 for 32x32 images",
        _DENSE,
        _cifar(1_019_722, 264_812_928),
        depth=40,
        growth=12,
        bottleneck=False,
        compression=1.0,
    ),
}

_FRACTALNETS = {
    "fractalnet": _row(
        "fractalnets:fractalnet",
        "FractalNet-20: five blocks of three columns, for 32x32 images",
        _FRACTAL,
        _cifar(33_734_922, 845_222_912),
    ),
    "fractalnet40": _row(
        "fractalnets:fractalnet",
        "FractalNet-40: five blocks of four columns, for 32x32 images",
        _FRACTAL,
        _cifar(76_128_714, 2_036_077_568),
        columns=4,
    ),
}

_SMALL_VIT: dict[str, Any] = {"width": 384, "depth": 12, "heads": 6, "mlp_width": 1536}
_LARGE_VIT: dict[str, Any] = {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096}
_VITS = {
    "vit": _row("vits:vit", "vision transformer of any size", _VIT, _facts(86_567_656, 17_563_828_224)),
    "vit_s_16": _row("vits:vit", "ViT-S/16", _VIT, _facts(22_050_664, 4_598_882_304), patch=16, **_SMALL_VIT),
    "vit_b_16": _row("vits:vit", "ViT-B/16", _VIT, _facts(86_567_656, 17_563_828_224), patch=16),
    "vit_b_32": _row("vits:vit", "ViT-B/32", _VIT, _facts(88_224_232, 4_409_186_304), patch=32),
    "vit_l_16": _row("vits:vit", "ViT-L/16", _VIT, _facts(304_326_632, 61_554_712_576), patch=16, **_LARGE_VIT),
}

_ROWS = {
    **_SMALL,
    **_FRACTIONAL,
    **_FIRST,
    **_VGGS,
    **_RESNETS,
    **_CIFAR_RESNETS,
    **_PREACT_RESNETS,
    **_DENSENETS,
    **_FRACTALNETS,
    **_VITS,
}


def _with_errors(name: str, info: Info) -> Info:
    if name not in PUBLISHED:
        return info
    return dataclasses.replace(info, facts={**info.facts, "published": PUBLISHED[name]})


MODELS = Table("model", {name: _with_errors(name, info) for name, info in _ROWS.items()})
