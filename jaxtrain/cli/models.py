"""Parsing of models on the command line: a name or a call, its options, the image shape and the number of classes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtrain.config import ModelSpec

Shape = tuple[int, int, int]


def parse_model(call: str, options: list[str]) -> "ModelSpec":
    """Return the spec of the model that `call`, with `options` such as `depth=34`, names, checked as in a config."""
    import typing

    from jaxtrain.cli.components import parse_component

    return typing.cast("ModelSpec", parse_component("model", call, options, "depth=34"))


def image_shape_and_classes(spec: "ModelSpec", size: str | None, classes: int | None) -> tuple[Shape, int]:
    """Return the image shape and the number of classes: those given, else those the model was published with."""
    from jaxtrain.errors import ConfigError
    from jaxtrain.registry import get_registry

    facts = get_registry("model")[spec.name].reference
    if classes is not None and classes < 1:
        raise ConfigError(f"{classes} is out of range; it must be >= 1", "--classes")
    shape = _parse_shape(size) if size is not None else facts["input"]
    return shape, classes or spec.options.get("num_classes") or facts["num_classes"]


def _parse_shape(text: str) -> Shape:
    from jaxtrain.errors import ConfigError

    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) for p in parts):
        raise ConfigError(
            f"{text!r} is not the shape of an image; write HEIGHTxWIDTHxCHANNELS, such as 224x224x3", "--input"
        )
    height, width, channels = map(int, parts)
    return height, width, channels
