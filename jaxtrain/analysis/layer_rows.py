"""Rows of a table of layers, and merging of several rows into one."""

import dataclasses
from collections.abc import Sequence

from jaxtrain.analysis.jaxpr_ops import ABBREVIATIONS
from jaxtrain.analysis.layer_finder import Path

_COUNTS = ("weights", "biases", "statistics", "multiply_adds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """A receptive field: the part of the image on which one element of a layer's output depends.

    Attributes:
      size: height and width in pixels of the image, padding included.
      stride: distance in pixels between the fields of neighboring elements; 0 if all fields are the same.
      whole: whether the field of every element is the whole image.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    whole: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer, or several layers as one row. Parameters of a layer that is called twice count at the first call.

    Attributes:
      name: path of the layer's module, or of the module around it with the operation: "stage1_block1/add".
      kind: description of the layer, such as "conv 3x3 pad 1, relu".
      path: path of the layer's module, or of the module around it.
      shape: shape of the output, without the batch axis.
      dtype: dtype of the output.
      weights: number of values of parameters with two axes or more, such as kernels and embeddings.
      biases: number of values of the other parameters: biases, scales and slopes, one per channel.
      statistics: number of values that are not trained.
      multiply_adds: multiply-adds of convolutions, dense layers and attention, for one image.
      activations: number of elements of the output.
      activation_bytes: bytes of the output.
      field: receptive field of the output.
      minor: whether it is an activation, a normalization or dropout, which a table shows with the layer before.
      source: index of the layer whose output it takes; -1 for the input.
    """

    name: str
    kind: str
    path: Path
    shape: tuple[int, ...]
    dtype: str
    weights: int
    biases: int
    statistics: int
    multiply_adds: int
    activations: int
    activation_bytes: int
    field: ReceptiveField
    minor: bool = False
    source: int = -1

    @property
    def parameters(self) -> int:
        """The number of parameters: weights and biases."""
        return self.weights + self.biases


def fold_minor_layers(layers: Sequence[LayerRow]) -> tuple[LayerRow, ...]:
    """Merge each minor layer into the layer that it follows, whose output stays that of the row.

    Minor layers directly after the input stay rows of their own.
    """
    main: dict[int, LayerRow] = {}
    targets: dict[int, int] = {}  # index of a layer: index of the layer that it is merged into
    for number, layer in enumerate(layers):
        target = targets.get(layer.source, layer.source)
        if not layer.minor or target == 0:
            main[number], targets[number] = layer, number
            continue
        targets[number] = target
        row = main[target]
        main[target] = dataclasses.replace(
            row,
            kind=f"{row.kind}, {ABBREVIATIONS.get(layer.kind, layer.kind)}",
            **{name: getattr(row, name) + getattr(layer, name) for name in _COUNTS},
        )
    return tuple(main.values())


def merge_layers(path: Path, layers: Sequence[LayerRow], classes: dict[Path, str]) -> LayerRow:
    """Merge several layers into one row, with the output of the last."""
    if len(layers) == 1:
        return layers[0]
    names = (*_COUNTS, "activations", "activation_bytes")
    return dataclasses.replace(
        layers[-1],
        name="/".join(path),
        kind=f"{classes.get(path, 'module')}, {len(layers)} layers",
        path=path,
        **{name: sum(getattr(layer, name) for layer in layers) for name in names},
    )
