"""PyTorch's nets and loops, eager, compiled and in Lightning; data in memory, gathered by index."""
# mypy: ignore-errors

import itertools
import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.nets import Net

Advance = Callable[[int], None]
_KEPT = []  # torch forgets operators with the object that defined them


class _Block(nn.Module):
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


def _model(name: str) -> nn.Module:
    if name in ("tiny", "mlp"):
        sizes = [784, *([32] if name == "tiny" else [512, 512])]
        hidden = [part for m, n in itertools.pairwise(sizes) for part in (nn.Linear(m, n), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))
    if name == "lenet5":
        features = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
        dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
        return nn.Sequential(*features, nn.Flatten(), *dense)
    if name == "resnet20":
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        blocks = [_Block(a, b) for a, b in itertools.pairwise(widths)]
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    _load_torchvision()
    from torchvision.models import resnet50

    return resnet50()


def _load_torchvision() -> None:
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


def _data(net: Net) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = net.data()
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()


def loop(net: Net, name: str, batch: int, *, compiled: bool = False) -> Advance:
    """The usual loop: zero, forward, backward, step; convolutions channels-last; metrics kept, read every 100 steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    form = torch.channels_last if len(net.shape) == 3 and name not in ("tiny", "mlp") else torch.contiguous_format
    model = _model(name).to(device, memory_format=form).train()
    call = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images, labels = (x.to(device) for x in _data(net))
    seen, t, order = [], 0, None

    def advance(steps: int) -> None:
        nonlocal t, order
        for _ in range(steps):
            place = t % (net.examples // batch)
            if order is None or place == 0:
                order = torch.randperm(net.examples, device=device)
            index = order[place * batch : (place + 1) * batch]
            x, y = images[index].to(memory_format=form, dtype=torch.float32) / 255, labels[index]
            optimizer.zero_grad(set_to_none=True)
            logits = call(x)
            loss = functional.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            seen.append((loss.detach(), (logits.argmax(-1) == y).float().mean()))
            t += 1
            if t % 100 == 0:
                _ = [float(torch.stack(x).mean()) for x in zip(*seen, strict=True)]
                seen.clear()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return advance


def lightning(net: Net, name: str, batch: int) -> Advance:
    """Lightning's `Trainer.fit`, without logger, progress bar and checkpoints, over batches made as in `loop`."""
    import logging
    import warnings

    _load_torchvision()  # which Lightning's metrics import
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    images, labels = _data(net)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _model(name)

        def training_step(self, data: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
            return functional.cross_entropy(self.net(data[0]), data[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)

    class Batches(torch.utils.data.IterableDataset):
        def __iter__(self):
            while True:
                order = torch.randperm(net.examples)
                for start in range(0, net.examples - batch + 1, batch):
                    index = order[start : start + batch]
                    yield images[index].float() / 255, labels[index]

    module = Module()

    def advance(steps: int) -> None:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = pl.Trainer(max_steps=steps, enable_model_summary=False, accelerator="auto", devices=1, **quiet)
        trainer.fit(module, torch.utils.data.DataLoader(Batches(), batch_size=None))

    return advance
