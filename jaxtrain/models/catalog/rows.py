"""How a row of the table of models is written."""

from collections.abc import Mapping
from typing import Any

from jaxtrain.registry import Info


def facts(
    parameters: int, multiply_adds: int, side: int = 224, channels: int = 3, num_classes: int = 1000
) -> dict[str, Any]:
    """Parameters, and multiply-adds for one image of `side` x `side` x `channels`."""
    return {
        "input": (side, side, channels),
        "num_classes": num_classes,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
    }


def cifar(parameters: int, multiply_adds: int) -> dict[str, Any]:
    """The same for 32x32x3 and 10 classes."""
    return facts(parameters, multiply_adds, side=32, num_classes=10)


def row(factory: str, description: str, paper: str, facts: Mapping[str, Any], **preset: Any) -> Info:
    """A row; `preset` are the options that it has chosen."""
    return Info(f"jaxtrain.models.{factory}", description, paper, preset=preset, supplied=("num_classes",), facts=facts)
