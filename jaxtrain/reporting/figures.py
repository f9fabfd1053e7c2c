"""Matplotlib figures written to files; without matplotlib a `ConfigError` says what to install."""

from collections.abc import Sequence
from typing import Any

from jaxtrain.errors import ConfigError


def pyplot() -> Any:
    """Return `matplotlib.pyplot` with the Agg backend, which draws to files; raise `ConfigError` without matplotlib."""
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("--output needs matplotlib: install jaxtrain[docs], or omit --output") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: str) -> None:
    """Write a figure to `path` and close it."""
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {error}", "--output") from error
    finally:
        pyplot().close(figure)


def curve(path: str, x: Sequence[float], y: Sequence[float], *, title: str, x_label: str, y_label: str) -> None:
    """Write a line plot of one curve to `path`."""
    figure, axis = pyplot().subplots(figsize=(8, 3.4), layout="constrained")
    axis.plot(x, y)
    axis.set(xlabel=x_label, ylabel=y_label, title=title)
    axis.title.set_fontsize(9)
    save(figure, path)


def histograms(
    path: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, float, Sequence[int]]]]], title: str
) -> None:
    """Write a grid of histograms to `path`.

    Args:
      path: file to write.
      rows: rows `(name, histograms)`; a histogram is `(title, least value, greatest value, counts in equal bins)`.
      title: title of the figure.
    """
    columns = max(len(cells) for _, cells in rows)
    size = (2.1 * columns + 0.5, 1.7 * len(rows) + 0.6)
    figure, axes = pyplot().subplots(len(rows), columns, figsize=size, layout="constrained", squeeze=False)
    for line, (name, cells) in zip(axes, rows, strict=True):
        for axis, (heading, low, high, counts) in zip(line, cells, strict=False):
            width = (high - low) / len(counts) or 1.0
            axis.bar([low + (i + 0.5) * width for i in range(len(counts))], counts, width=width)
            axis.set_title(heading, fontsize=7)
            axis.set_yticks([])
            axis.tick_params(labelsize=6)
        for axis in line[len(cells) :]:
            axis.set_visible(False)
        line[0].set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    save(figure, path)
