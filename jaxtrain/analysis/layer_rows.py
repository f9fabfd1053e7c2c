"""The rows of a table of layers, and several of them as one."""

import dataclasses
from collections.abc import Sequence

from jaxtrain.analysis.jaxpr_ops import SHORT
from jaxtrain.analysis.layers import Path

_COUNTS = ("weights", "biases", "statistics", "multiply_adds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A receptive field: what one element of a layer's output sees of the image.

    Attributes:
      size: pixels along each side of the image, those outside of it among them.
      stride: pixels between what two neighbors see; 0 where all see the same.
      whole: whether all elements see the same, and that is the whole image.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    whole: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer, or several as one. A layer that is called twice has its parameters counted the first time.

    Attributes:
      name: path of the module, or that of the module around it and what it is: "stage1_block1/add".
      kind: "conv 3x3 pad 1, relu", say.
      path: of the module that it is, or is in.
      shape: of the output, without the batch.
      dtype: of the output.
      weights: values of kernels, embeddings and the like: parameters of two axes at least.
      biases: the other parameters: biases, and scales and slopes, one a channel.
      statistics: values that are not trained.
      multiply_adds: of convolutions, dense layers and attention, for one image.
      activations: elements of the outputs.
      activation_bytes: that they take.
      field: receptive field of the output.
      minor: whether it is an activation, a normalization or dropout, which a table shows with the layer before.
      source: number of the layer whose output it takes; -1 for the input.
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
    field: Field
    minor: bool = False
    source: int = -1

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases


def without_minor(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Minor layers count with what they are made of, their outputs aside; the input takes none of them."""
    main: dict[int, Layer] = {}
    homes: dict[int, int] = {}
    for number, layer in enumerate(layers):
        home = homes.get(layer.source, layer.source)
        if not layer.minor or home == 0:
            main[number], homes[number] = layer, number
            continue
        homes[number] = home
        to = main[home]
        main[home] = dataclasses.replace(
            to,
            kind=f"{to.kind}, {SHORT.get(layer.kind, layer.kind)}",
            **{name: getattr(to, name) + getattr(layer, name) for name in _COUNTS},
        )
    return tuple(main.values())


def block_of(path: Path, layers: Sequence[Layer], classes: dict[Path, str]) -> Layer:
    """Several layers as one, with the output of the last."""
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
