"""PyTorch's loops, eager, compiled and in Lightning; data in memory, gathered by index."""
# mypy: ignore-errors

import torch
from torch.nn import functional

from benchmarks import measuring
from benchmarks.nets import Net
from benchmarks.torch_nets import load_torchvision, torch_net


def _data(net: Net) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = net.data()
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()


def loop(net: Net, name: str, batch: int, *, compiled: bool = False) -> measuring.Advance:
    """The usual loop: zero, forward, backward, step; convolutions channels-last; metrics kept, read every 100 steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    form = torch.channels_last if len(net.shape) == 3 and name not in ("tiny", "mlp") else torch.contiguous_format
    model = torch_net(name).to(device, memory_format=form).train()
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


def lightning(net: Net, name: str, batch: int) -> measuring.Advance:
    """Lightning's `Trainer.fit`, without logger, progress bar and checkpoints, over batches made as in `loop`."""
    import logging
    import warnings

    load_torchvision()  # which Lightning's metrics import
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    images, labels = _data(net)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch_net(name)

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
