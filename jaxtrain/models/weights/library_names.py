"""The names of torchvision, timm and pytorch_resnet_cifar10 for the networks that they share with this package.

They follow `state_dict()` of torchvision 0.28 and timm 1.0, and the code of akamaster's pytorch_resnet_cifar10. A
network that a library lacks has no entry.
"""

import itertools
import re
from collections.abc import Collection, Mapping

import numpy as np

from jaxtrain.models.alexnets import AlexNet
from jaxtrain.models.densenets import DenseNet
from jaxtrain.models.googlenets import GoogLeNet
from jaxtrain.models.resnets import ResNet
from jaxtrain.models.vggs import VGG
from jaxtrain.models.vits import ViT
from jaxtrain.models.weights.axis_order import attention_input_layout, attention_output_layout, dense_as_conv_layout
from jaxtrain.models.weights.name_rules import Family, Rules, module_path
from jaxtrain.models.weights.tracing import ModelTrace

_BLOCK, _LAYER = "stage{s}_block{b}", "layer{s}.{b-1}"


def _stride(model: ResNet) -> str:
    if model.residual.kind == "bottleneck" and model.residual.stride_in == "1x1":
        return (
            "the file's bottlenecks have the stride in the 3x3 convolution, the model's in the 1x1: set stride_in='3x3'"
        )
    return ""


_RESNET = Family(
    title="a ResNet",
    model=ResNet,
    rules=(
        ("conv1", "conv1"),
        ("norm1", "bn1"),
        (f"{_BLOCK}/conv{{i}}", f"{_LAYER}.conv{{i}}"),
        (f"{_BLOCK}/norm{{i}}", f"{_LAYER}.bn{{i}}"),
        (f"{_BLOCK}/shortcut", f"{_LAYER}.downsample.0"),
        (f"{_BLOCK}/shortcut_norm", f"{_LAYER}.downsample.1"),
        ("logits", "fc"),
    ),
    sign="fc.weight",
    caveat=_stride,
)


def _channel_order(model: ResNet, anatomy: ModelTrace) -> Mapping[str, Mapping[int, np.ndarray]]:
    """Return channel permutations by path and axis, for shortcuts that pad with zeros.

    Our shortcuts append all zero channels; the other library puts half of them before and half after.
    """
    if model.residual.shortcut != "A":
        return {}
    streams = [np.arange(model.features[0])]
    for features in model.features[1:]:
        old, new = streams[-1], np.arange(len(streams[-1]), features)
        before = (features - len(old)) // 2
        streams.append(np.concatenate([new[:before], old, new[before:]]))
    orders: dict[str, Mapping[int, np.ndarray]] = {"params/logits/kernel": {0: streams[-1]}}
    for path in anatomy.shapes:
        block = re.fullmatch(r"stage(\d+)_block(\d+)/(\w+)", module_path(path))
        if not block:
            continue
        stage, layer = int(block[1]) - 1, block[3]
        if layer == "conv1":
            orders[path] = {2: streams[stage - (stage > 0 and block[2] == "1")]}
        elif layer in ("conv2", "norm2"):
            orders[path] = {3 if layer == "conv2" else 0: streams[stage]}
    return orders


_AKAMASTER = Family(
    title="a ResNet of pytorch_resnet_cifar10",
    model=ResNet,
    rules=tuple(
        (ours, theirs.replace("downsample", "shortcut").replace("fc", "linear")) for ours, theirs in _RESNET.rules
    ),
    sign="linear.weight",
    channels=_channel_order,
    serves=lambda model: model.stem == "cifar" and model.residual.kind == "basic",
)

_DENSENET = Family(
    title="a DenseNet",
    model=DenseNet,
    rules=(
        ("conv1", "features.conv0"),
        ("norm1", "features.norm0"),
        ("block{b}_layer{i}/conv{c}", "features.denseblock{b}.denselayer{i}.conv{c}"),
        ("block{b}_layer{i}/norm{c}", "features.denseblock{b}.denselayer{i}.norm{c}"),
        ("transition{b}_norm", "features.transition{b}.norm"),
        ("transition{b}_conv", "features.transition{b}.conv"),
        ("norm", "features.norm5"),
        ("logits", "classifier"),
    ),
    sign="features.denseblock1.denselayer1.norm1.weight",
    older=((r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)", r"\1\2"),),
)


def _vgg_features(modules: Collection[str]) -> Rules:
    """Return the rules of `features`, where convolutions, normalizations, activations and poolings are numbered."""
    rules, index = [], itertools.count()
    for stage in range(1, 6):
        for i in itertools.count(1):
            if f"stage{stage}_conv{i}" not in modules:
                break
            rules.append((f"stage{stage}_conv{i}", f"features.{next(index)}"))
            if f"stage{stage}_norm{i}" in modules:
                rules.append((f"stage{stage}_norm{i}", f"features.{next(index)}"))
            next(index)  # the activation
        next(index)  # the pooling
    return rules


_VGG = Family(
    title="torchvision's VGG",
    model=VGG,
    rules=(("fc1", "classifier.0"), ("fc2", "classifier.3"), ("logits", "classifier.6")),
    numbered=_vgg_features,
    sign="classifier.3.weight",
)
_TIMM_VGG = Family(
    title="timm's VGG",
    model=VGG,
    rules=(("fc{i}", "pre_logits.fc{i}"), ("logits", "head.fc")),
    numbered=_vgg_features,
    sign="pre_logits.fc1.weight",
    layouts={r"fc\d": dense_as_conv_layout},
)

_ALEXNET = Family(
    title="torchvision's AlexNet",
    model=AlexNet,
    rules=(
        *((f"conv{i}", f"features.{index}") for i, index in enumerate((0, 3, 6, 8, 10), 1)),
        *zip(("fc1", "fc2", "logits"), ("classifier.1", "classifier.4", "classifier.6"), strict=True),
    ),
    sign="classifier.4.weight",
    caveat=lambda model: (
        "torchvision's AlexNet has no local response normalization, but the model has: set norm_position='none'"
        if model.norm_position != "none"
        else ""
    ),
)

_INCEPTION = {
    "conv1x1": "branch1",
    "conv3x3_reduce": "branch2.0",
    "conv3x3": "branch2.1",
    "conv5x5_reduce": "branch3.0",
    "conv5x5": "branch3.1",
    "pool_conv": "branch4.1",
}
_GOOGLENET_CONVOLUTIONS = (
    ("conv1", "conv1"),
    ("conv2_reduce", "conv2"),
    ("conv2", "conv3"),
    *((f"inception_{{m}}/{ours}", f"inception{{m}}.{theirs}") for ours, theirs in _INCEPTION.items()),
    ("auxiliary_4a/conv", "aux1.conv"),
    ("auxiliary_4d/conv", "aux2.conv"),
)


def _epsilon(model: GoogLeNet) -> str:
    layers = model.layers
    if layers.norm == "batch" and layers.epsilon != 1e-3:
        return (
            f"torchvision's GoogLeNet normalizes with epsilon 0.001, the model with {layers.epsilon}: set epsilon=0.001"
        )
    return ""


_GOOGLENET = Family(
    title="torchvision's GoogLeNet",
    model=GoogLeNet,
    rules=(
        *((ours, f"{theirs}.conv") for ours, theirs in _GOOGLENET_CONVOLUTIONS),
        *((f"{ours}_norm", f"{theirs}.bn") for ours, theirs in _GOOGLENET_CONVOLUTIONS),
        *(
            (f"auxiliary_{module}/{ours}", f"aux{i}.{theirs}")
            for i, module in enumerate(("4a", "4d"), 1)
            for ours, theirs in (("fc", "fc1"), ("logits", "fc2"))
        ),
        ("logits", "fc"),
    ),
    sign="inception3a.branch1.conv.weight",
    optional=r"aux[12]\..*",
    caveat=_epsilon,
)

_LAYER_OF_VIT = "encoder.layers.encoder_layer_{b-1}"
_ATTENTION = {
    r"block\d+/attention/(query|key|value)": attention_input_layout,
    r"block\d+/attention/out": attention_output_layout,
}
_VIT = Family(
    title="torchvision's ViT",
    model=ViT,
    rules=(
        ("patches", "conv_proj"),
        ("block{b}/norm{i}", f"{_LAYER_OF_VIT}.ln_{{i}}"),
        *(
            (f"block{{b}}/attention/{part}", f"{_LAYER_OF_VIT}.self_attention.in_proj_")
            for part in ("query", "key", "value")
        ),
        ("block{b}/attention/out", f"{_LAYER_OF_VIT}.self_attention.out_proj"),
        ("block{b}/fc1", f"{_LAYER_OF_VIT}.mlp.0"),
        ("block{b}/fc2", f"{_LAYER_OF_VIT}.mlp.3"),
        ("norm", "encoder.ln"),
        ("logits", "heads.head"),
    ),
    parameters={"class_token": "class_token", "positions": "encoder.pos_embedding"},
    sign="conv_proj.weight",
    older=((r"(.*\.mlp)\.linear_1\.(.*)", r"\1.0.\2"), (r"(.*\.mlp)\.linear_2\.(.*)", r"\1.3.\2")),
    layouts=_ATTENTION,
)
_TIMM_VIT = Family(
    title="timm's ViT",
    model=ViT,
    rules=(
        ("patches", "patch_embed.proj"),
        ("block{b}/norm{i}", "blocks.{b-1}.norm{i}"),
        *((f"block{{b}}/attention/{part}", "blocks.{b-1}.attn.qkv") for part in ("query", "key", "value")),
        ("block{b}/attention/out", "blocks.{b-1}.attn.proj"),
        ("block{b}/fc{i}", "blocks.{b-1}.mlp.fc{i}"),
        ("norm", "norm"),
        ("logits", "head"),
    ),
    parameters={"class_token": "cls_token", "positions": "pos_embed"},
    sign="patch_embed.proj.weight",
    layouts=_ATTENTION,
)

FAMILIES: dict[str, tuple[Family, ...]] = {
    "torchvision": (_RESNET, _DENSENET, _VGG, _ALEXNET, _GOOGLENET, _VIT),
    "timm": (_RESNET, _DENSENET, _TIMM_VGG, _TIMM_VIT),
    "akamaster": (_AKAMASTER,),
}
"""Networks by library; `find_family` takes the first that applies to a model."""
