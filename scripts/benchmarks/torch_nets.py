"""PyTorch's nets that ours are compared with."""
# mypy: ignore-errors

import itertools
import sys

import torch
from torch import nn
from torch.nn import functional

_KEPT = []  # torch forgets operators with the object that defined them


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2015, option A)."""

    def __init__(self, before: int, width: int):
        super().__init__()
        self.stride = 2 if width != before else 1
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2, self.more = nn.BatchNorm2d(width), nn.BatchNorm2d(width), width - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.relu(y + functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))


def torch_net(name: str, side: int = 32) -> nn.Module:
    """The net of that name in `benchmarks.nets`; LeNet-5 for images of `side`."""
    if name in ("tiny", "mlp"):
        sizes = [784, *([32] if name == "tiny" else [512, 512])]
        hidden = [part for m, n in itertools.pairwise(sizes) for part in (nn.Linear(m, n), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))
    if name == "lenet5":
        features = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
        dense = [
            nn.Linear(16 * ((side - 12) // 4) ** 2, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        ]
        return nn.Sequential(*features, nn.Flatten(), *dense)
    if name == "resnet20":
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [Block(a, b) for a, b in itertools.pairwise(widths)]
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    load_torchvision()
    from torchvision.models import resnet50

    return resnet50()


def load_torchvision() -> None:
    """Imports torchvision, also beside a torch that its operators were not built for; these are not needed here."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        _KEPT.append(library)
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401
