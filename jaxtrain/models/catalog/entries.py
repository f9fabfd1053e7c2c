"""Functions that build the entries of the catalog of models."""

from collections.abc import Mapping
from typing import Any

from jaxtrain.registry import Entry


def reference(
    parameters: int, multiply_adds: int, side: int = 224, channels: int = 3, num_classes: int = 1000
) -> dict[str, Any]:
    """Return a model's reference figures: parameters and multiply-adds for a `side` x `side` x `channels` image."""
    return {
        "input": (side, side, channels),
        "num_classes": num_classes,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
    }


def cifar_reference(parameters: int, multiply_adds: int) -> dict[str, Any]:
    """Return the reference figures of a model for 32x32x3 images and 10 classes."""
    return reference(parameters, multiply_adds, side=32, num_classes=10)


def entry(factory: str, description: str, paper: str, facts: Mapping[str, Any], **preset: Any) -> Entry:
    """Return a catalog entry; `preset` holds the options that the variant fixes."""
    return Entry(
        f"jaxtrain.models.{factory}", description, paper, preset=preset, supplied=("num_classes",), reference=facts
    )
