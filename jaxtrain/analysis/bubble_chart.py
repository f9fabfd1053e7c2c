"""Models as bubbles: accuracy against operations, the area in proportion to the parameters."""

from collections.abc import Sequence
from typing import Any

from jaxtrain.analysis.compare import Candidate, Comparison
from jaxtrain.analysis.layer_table import count_short

_LARGEST = 50.0
"""Width of the largest bubble, in points."""


def charted(candidates: Sequence[Candidate]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Accuracies in percent by test set and model, and the names of models without a published top-1 error."""
    panels: dict[str, dict[str, float]] = {}
    left_out = []
    for c in candidates:
        entry = next((e for e in c.published if e["metric"] == "top-1"), None)
        if entry is None:
            left_out.append(c.name)
        else:
            panels.setdefault(entry["data"], {})[c.name] = 100 - entry["error"]
    return panels, left_out


def draw(rows: Sequence[Comparison], path: str) -> None:
    """Writes a picture with one set of axes for each test set.

    Args:
      rows: models, of which those without a published top-1 error are left out.
      path: of the file.

    Raises:
      ImportError: without matplotlib.
      OSError: where the file cannot be written.
      ValueError: for a format that matplotlib does not know.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels, _ = charted([r.candidate for r in rows])
    points = {
        data: sorted(((r, at[r.candidate.name]) for r in rows if r.candidate.name in at), key=_largest_first)
        for data, at in panels.items()
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(8 * len(panels), 6), dpi=110, squeeze=False, layout="constrained"
    )
    try:
        for axis, data in zip(axes[0], panels, strict=True):
            _draw_panel(axis, data, points[data])
        figure.canvas.draw()  # which settles where things are
        for axis, data in zip(axes[0], panels, strict=True):
            _label(axis, points[data])
        figure.savefig(path, dpi=figure.dpi)
    finally:
        plt.close(figure)


def _largest_first(point: tuple[Comparison, float]) -> int:
    return -point[0].parameters


def _draw_panel(axis: Any, data: str, points: Sequence[tuple[Comparison, float]]) -> None:
    """The largest bubbles first, so that small ones lie on top."""
    operations = [r.multiply_adds / 1e9 for r, _ in points]
    most = max(r.parameters for r, _ in points)
    sides = [_LARGEST * (r.parameters / most) ** 0.5 for r, _ in points]
    axis.scatter(
        operations,
        [accuracy for _, accuracy in points],
        s=[side**2 for side in sides],
        c=[f"C{i % 10}" for i in range(len(points))],
        alpha=0.55,
        edgecolors="black",
        linewidths=0.6,
    )
    if max(operations) > 30 * min(operations):
        axis.set_xscale("log")
    axis.margins(0.15)
    axis.set(xlabel="multiply-adds for one image, billions", ylabel="top-1 accuracy, %")
    axis.set_title(f"{data}; the area of a bubble is in proportion to the parameters", fontsize=10)
    axis.grid(alpha=0.3)


def _label(axis: Any, points: Sequence[tuple[Comparison, float]]) -> None:
    """Writes each model's name and parameters beside its bubble, where there is room."""
    most = max(r.parameters for r, _ in points)
    taken: list[Any] = []
    for r, accuracy in points:
        gap = _LARGEST * (r.parameters / most) ** 0.5 / 2 + 3
        places = [(gap, 0, "left", "center"), (-gap, 0, "right", "center")]
        places += [(0, gap, "center", "bottom"), (0, -gap, "center", "top")]
        text = axis.annotate(
            f"{r.candidate.name} ({count_short(r.parameters)})",
            (r.multiply_adds / 1e9, accuracy),
            places[0][:2],
            textcoords="offset points",
            fontsize=8,
        )
        for x, y, horizontal, vertical in (*places, places[0]):  # the first one after all, where none is free
            text.set(position=(x, y), ha=horizontal, va=vertical)
            box = text.get_window_extent()
            inside = axis.bbox.x0 < box.x0 and box.x1 < axis.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
