"""The nets that frameworks are compared with, and the images they train on: the same arrays for all."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Net:
    """A net of ours, by the text of its spec, and its input.

    Attributes:
      model: as in a config.
      shape: of an image.
      classes: of the data.
      examples: in the data set, held in memory by all.
      batches: sizes that are measured by default.
    """

    model: str
    shape: tuple[int, int, int]
    classes: int
    examples: int
    batches: tuple[int, ...]

    @property
    def dataset(self) -> str:
        """As in a config."""
        h, w, c = self.shape
        return (
            f"synthetic(height={h}, width={w}, channels={c}, num_classes={self.classes}, "
            f"train_examples={self.examples}, test_examples=10)"
        )

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """uint8[N, H, W, C] and int32[N]."""
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (self.examples, *self.shape), np.uint8)
        return images, draw.integers(0, self.classes, self.examples).astype(np.int32)


NETS = {
    "tiny": Net("mlp(widths=[32])", (28, 28, 1), 10, 60_000, (32,)),
    "mlp": Net("mlp(widths=[512, 512])", (28, 28, 1), 10, 60_000, (32, 128)),
    "lenet5": Net("lenet5", (32, 32, 1), 10, 20_000, (32, 128)),
    "resnet20": Net("resnet20", (32, 32, 3), 10, 10_000, (128,)),
    "resnet50": Net("resnet50", (224, 224, 3), 1000, 64, (8,)),
}
