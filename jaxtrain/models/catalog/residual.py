"""Catalog entries of residual, plain, pre-activation and wide residual networks and of ResNeXt."""

from jaxtrain.models.catalog.entries import cifar_reference, entry, reference

_RESNET = "He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385"
_PREACT = "He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027"
_WIDE = "Zagoruyko & Komodakis 2016, Wide residual networks, arXiv:1605.07146"
_RESNEXT = "Xie et al. 2017, Aggregated residual transformations for deep neural networks, arXiv:1611.05431"
_DEPTH = "Huang et al. 2016, Deep networks with stochastic depth, arXiv:1603.09382"

_RESNET_COUNTS = {
    18: (11_689_512, 1_814_073_344),
    34: (21_797_672, 3_663_761_408),
    50: (25_557_032, 4_089_184_256),
    101: (44_549_160, 7_801_405_440),
    152: (60_192_808, 11_513_626_624),
}
RESNETS = {
    "resnet": entry(
        "resnets:resnet",
        "ResNet for 224x224 images, of depth 18, 34, 50, 101 or 152",
        _RESNET,
        reference(*_RESNET_COUNTS[50]),
    ),
    **{
        f"resnet{depth}": entry(
            "resnets:resnet", f"ResNet-{depth} for 224x224 images", _RESNET, reference(*counts), depth=depth
        )
        for depth, counts in _RESNET_COUNTS.items()
    },
    "plain18": entry(
        "resnets:resnet",
        "plain network of 18 layers: ResNet-18 without shortcuts",
        _RESNET,
        reference(11_515_688, 1_794_805_760),
        depth=18,
        shortcut="none",
    ),
    "plain34": entry(
        "resnets:resnet",
        "plain network of 34 layers: ResNet-34 without shortcuts",
        _RESNET,
        reference(21_623_848, 3_644_493_824),
        depth=34,
        shortcut="none",
    ),
    "resnext50_32x4d": entry(
        "resnets:resnet",
        "ResNeXt-50 with 32 groups of 4 channels",
        _RESNEXT,
        reference(25_028_904, 4_230_479_872),
        depth=50,
        groups=32,
        group_width=4,
    ),
    "resnext101_32x4d": entry(
        "resnets:resnet",
        "ResNeXt-101 with 32 groups of 4 channels",
        _RESNEXT,
        reference(44_177_704, 7_969_996_800),
        depth=101,
        groups=32,
        group_width=4,
    ),
    "wide_resnet50_2": entry(
        "resnets:resnet",
        "ResNet-50 with bottlenecks twice as wide",
        _WIDE,
        reference(68_883_240, 11_398_021_120),
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
CIFAR_RESNETS = {
    "cifar_resnet": entry(
        "cifar_resnets:cifar_resnet",
        "ResNet for 32x32 images, of any depth 6 n + 2",
        _RESNET,
        cifar_reference(*_CIFAR_COUNTS[20]),
    ),
    **{
        f"resnet{depth}": entry(
            "cifar_resnets:cifar_resnet",
            f"ResNet-{depth} for 32x32 images",
            _RESNET,
            cifar_reference(*counts),
            depth=depth,
        )
        for depth, counts in (*_CIFAR_COUNTS.items(), (1202, (19_421_274, 2_829_238_912)))
    },
    **{
        f"plain{depth}": entry(
            "cifar_resnets:cifar_resnet",
            f"plain network of {depth} layers for 32x32 images: ResNet-{depth} without shortcuts",
            _RESNET,
            cifar_reference(*counts),
            depth=depth,
            shortcut="none",
        )
        for depth, counts in _CIFAR_COUNTS.items()
    },
    "stochastic_depth110": entry(
        "cifar_resnets:cifar_resnet",
        "ResNet-110 for 32x32 images with stochastic depth: survival from 1 down to 0.5",
        _DEPTH,
        cifar_reference(*_CIFAR_COUNTS[110]),
        depth=110,
        last_survival=0.5,
    ),
    "cifar_resnext": entry(
        "cifar_resnets:cifar_resnext",
        "ResNeXt for 32x32 images, of any depth 9 n + 2",
        _RESNEXT,
        cifar_reference(34_426_698, 5_387_266_048),
    ),
    "resnext29_8x64d": entry(
        "cifar_resnets:cifar_resnext",
        "ResNeXt-29 for 32x32 images with 8 groups of 64 channels",
        _RESNEXT,
        cifar_reference(34_426_698, 5_387_266_048),
        groups=8,
        group_width=64,
    ),
    "resnext29_16x64d": entry(
        "cifar_resnets:cifar_resnext",
        "ResNeXt-29 for 32x32 images with 16 groups of 64 channels",
        _RESNEXT,
        cifar_reference(68_155_210, 10_688_866_304),
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
PREACT_RESNETS = {
    "preact_resnet": entry(
        "preact_resnets:preact_resnet",
        "pre-activation ResNet for 32x32 images, of any depth 6 n + 2 or 9 n + 2",
        _PREACT,
        cifar_reference(1_730_522, 253_149_824),
    ),
    "preact_resnet110": entry(
        "preact_resnets:preact_resnet",
        "pre-activation ResNet-110 for 32x32 images: basic blocks, shortcuts without parameters",
        _PREACT,
        cifar_reference(1_727_962, 252_887_680),
        depth=110,
        shortcut="A",
    ),
    **{
        f"preact_resnet{depth}": entry(
            "preact_resnets:preact_resnet",
            f"pre-activation ResNet-{depth} for 32x32 images: bottlenecks",
            _PREACT,
            cifar_reference(*counts),
            depth=depth,
            kind="bottleneck",
        )
        for depth, counts in ((164, (1_703_258, 247_646_720)), (1001, (10_327_706, 1_490_995_712)))
    },
    "wide_resnet": entry(
        "preact_resnets:wide_resnet",
        "wide residual network for 32x32 images, of any depth 6 n + 4 and any width",
        _WIDE,
        cifar_reference(*_WIDE_COUNTS[28, 10]),
    ),
    **{
        f"wrn_{depth}_{width}": entry(
            "preact_resnets:wide_resnet",
            f"wide residual network WRN-{depth}-{width} for 32x32 images",
            _WIDE,
            cifar_reference(*counts),
            depth=depth,
            width=width,
        )
        for (depth, width), counts in _WIDE_COUNTS.items()
    },
}
