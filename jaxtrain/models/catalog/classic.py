"""Catalog entries of perceptrons, LeNet, fractional max pooling, AlexNet, ZFNet, GoogLeNet, VGG and Airbench."""

from jaxtrain.models.catalog.entries import cifar_reference, entry, reference

_VGG = "Simonyan & Zisserman 2015, Very deep convolutional networks, arXiv:1409.1556"
_ALEX = "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks"
_ZF = "Zeiler & Fergus 2014, Visualizing and understanding convolutional networks, arXiv:1311.2901"
_INCEPTION = "Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842"
_BN_INCEPTION = "Ioffe & Szegedy 2015, Batch normalization, arXiv:1502.03167"
_POOLING = "Graham 2014, Fractional max-pooling, arXiv:1412.6071"
_LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"

PERCEPTRONS_AND_LENETS = {
    "linear": entry(
        "perceptron:linear", "softmax regression: one dense layer on the pixels", "", reference(7_850, 7_840, 28, 1, 10)
    ),
    "mlp": entry(
        "perceptron:mlp",
        "multilayer perceptron of any depth and widths, with optional dropout or DropConnect",
        "Rumelhart et al. 1986; dropout: Srivastava et al. 2014; DropConnect: Wan et al. 2013",
        reference(669_706, 668_672, 28, 1, 10),
    ),
    "maxout_mlp": entry(
        "perceptron:maxout_mlp",
        "multilayer perceptron with maxout units of 5 linear maps, for MNIST",
        "Goodfellow et al. 2013, Maxout networks, arXiv:1302.4389",
        reference(1_233_610, 1_231_200, 28, 1, 10),
    ),
    "lenet5": entry(
        "lenet:lenet5",
        "LeNet-5, simplified: full C3, plain pooling, softmax output; 32x32 input",
        _LENET,
        reference(61_706, 416_520, 32, 1, 10),
    ),
    "lenet5_1998": entry(
        "lenet_1998:lenet5_1998",
        "the original LeNet-5: sparse C3, trainable subsampling, distances to templates; 32x32 input",
        _LENET,
        # 340,908 connections in the paper; the multiply-adds are more, since the sparse layer is computed as a full one
        reference(60_000, 415_680, 32, 1, 10),
    ),
}

FRACTIONAL = {
    "fractional_cnn": entry(
        "fractional_cnns:fractional_cnn",
        "convolutional net with six fractional max poolings by sqrt(2), for MNIST; 36x36 input",
        _POOLING,
        reference(519_946, 20_369_024, 36, 1, 10),
    ),
    "fractional_cnn_cifar": entry(
        "fractional_cnns:fractional_cnn",
        "convolutional net with twelve fractional max poolings by cbrt(2), for CIFAR; 94x94 input",
        _POOLING,
        reference(12_689_482, 2_378_980_864, 94, 3, 10),
        width=64,
        blocks=12,
        ratio=2 ** (1 / 3),
    ),
}

EARLY_IMAGENET = {
    "alexnet": entry(
        "alexnets:alexnet",
        "AlexNet with two towers (grouped convolutions); 227x227 input",
        _ALEX,
        reference(60_965_224, 724_406_816, 227),
    ),
    "alexnet_one_tower": entry(
        "alexnets:alexnet",
        "AlexNet with one tower; 227x227 input",
        _ALEX,
        reference(62_378_344, 1_135_256_096, 227),
        towers=1,
    ),
    "zfnet": entry(
        "alexnets:zfnet",
        "ZFNet with 384, 384 and 256 channels in its last convolutions (figure 3 of the paper)",
        _ZF,
        reference(62_357_608, 1_168_032_896),
    ),
    "zfnet_wide": entry(
        "alexnets:zfnet",
        "ZFNet with 512, 1,024 and 512 channels in its last convolutions (table 2 of the paper)",
        _ZF,
        reference(107_627_624, 2_476_704_896),
        wide=True,
    ),
    "googlenet": entry(
        "googlenets:googlenet",
        "GoogLeNet with its two auxiliary heads; 6,998,552 parameters without them",
        _INCEPTION,
        reference(13_378_280, 1_582_671_872),
    ),
    "googlenet_bn": entry(
        "googlenets:googlenet",
        "torchvision's GoogLeNet: batch normalization, 3x3 instead of 5x5 convolutions, no auxiliary heads",
        _BN_INCEPTION,
        reference(6_624_904, 1_498_376_192),
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
VGGS = {
    "vgg": entry("vggs:vgg", "VGG of any configuration", _VGG, reference(138_357_544, 15_470_264_320)),
    "vgg16_c": entry(
        "vggs:vgg",
        "VGG configuration C: 16 layers, with 1x1 third convolutions",
        _VGG,
        reference(133_638_952, 11_770_888_192),
        configuration="C",
    ),
    **{
        f"vgg{depth}": entry(
            "vggs:vgg",
            f"VGG configuration {letter}: {depth} layers",
            _VGG,
            reference(plain, multiply_adds),
            configuration=letter,
        )
        for depth, (letter, plain, _, multiply_adds) in _VGG_COUNTS.items()
    },
    **{
        f"vgg{depth}_bn": entry(
            "vggs:vgg",
            f"VGG configuration {letter}: {depth} layers, with batch normalization",
            _VGG,
            reference(normed, multiply_adds),
            configuration=letter,
            norm="batch",
        )
        for depth, (letter, _, normed, multiply_adds) in _VGG_COUNTS.items()
    },
}

SPEEDRUN = {
    "airbench94": entry(
        "airbench:airbench",
        "net of CIFAR-10 speedruns: whitening layer, three groups of two convolutions, scaled logits",
        "Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498",
        cifar_reference(1_972_792, 118_147_360),
    )
}
