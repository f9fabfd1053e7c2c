"""A bubble chart of models: accuracy against multiply-adds; the area of a bubble is proportional to the parameters."""

from collections.abc import Sequence
from typing import Any

from jaxtrain.analysis.compare import Candidate, Comparison
from jaxtrain.analysis.layer_table import format_count

_MAX_WIDTH = 50.0
"""Width of the largest bubble, in points."""


def chart_points(candidates: Sequence[Candidate]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return accuracies in percent by test set and model, and the models without a published top-1 error."""
    panels: dict[str, dict[str, float]] = {}
    left_out = []
    for c in candidates:
        entry = next((e for e in c.published if e["metric"] == "top-1"), None)
        if entry is None:
            left_out.append(c.name)
        else:
            panels.setdefault(entry["data"], {})[c.name] = 100 - entry["error"]
    return panels, left_out


def draw_bubble_chart(rows: Sequence[Comparison], path: str) -> None:
    """Draw a figure with one panel per test set, and write it to `path`.

    Args:
      rows: models to draw; those without a published top-1 error are left out.
      path: file to write.

    Raises:
      ImportError: matplotlib is not installed.
      OSError: the file cannot be written.
      ValueError: matplotlib does not know the file's format.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels, _ = chart_points([r.candidate for r in rows])
    points = {
        data: sorted(((r, panel[r.candidate.name]) for r in rows if r.candidate.name in panel), key=_negative_size)
        for data, panel in panels.items()
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(8 * len(panels), 6), dpi=110, squeeze=False, layout="constrained"
    )
    try:
        for axis, data in zip(axes[0], panels, strict=True):
            _draw_panel(axis, data, points[data])
        figure.canvas.draw()  # computes the layout, on which the positions of labels depend
        for axis, data in zip(axes[0], panels, strict=True):
            _draw_labels(axis, points[data])
        figure.savefig(path, dpi=figure.dpi)
    finally:
        plt.close(figure)


def _negative_size(point: tuple[Comparison, float]) -> int:
    return -point[0].parameters


def _draw_panel(axis: Any, data: str, points: Sequence[tuple[Comparison, float]]) -> None:
    """Draw the bubbles of one test set; `points` are sorted by size, so that small bubbles lie on large ones."""
    operations = [r.multiply_adds / 1e9 for r, _ in points]
    most = max(r.parameters for r, _ in points)
    sides = [_MAX_WIDTH * (r.parameters / most) ** 0.5 for r, _ in points]
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
    axis.set_title(f"{data}; the area of a bubble is proportional to the parameters", fontsize=10)
    axis.grid(alpha=0.3)


def _draw_labels(axis: Any, points: Sequence[tuple[Comparison, float]]) -> None:
    """Write each model's name and number of parameters beside its bubble, on a side where there is room."""
    most = max(r.parameters for r, _ in points)
    occupied: list[Any] = []
    for r, accuracy in points:
        gap = _MAX_WIDTH * (r.parameters / most) ** 0.5 / 2 + 3
        positions = [(gap, 0, "left", "center"), (-gap, 0, "right", "center")]
        positions += [(0, gap, "center", "bottom"), (0, -gap, "center", "top")]
        text = axis.annotate(
            f"{r.candidate.name} ({format_count(r.parameters)})",
            (r.multiply_adds / 1e9, accuracy),
            positions[0][:2],
            textcoords="offset points",
            fontsize=8,
        )
        for x, y, horizontal, vertical in (*positions, positions[0]):  # the first position again, if none is free
            text.set(position=(x, y), ha=horizontal, va=vertical)
            box = text.get_window_extent()
            inside = axis.bbox.x0 < box.x0 and box.x1 < axis.bbox.x1
            if inside and not any(box.overlaps(other) for other in occupied):
                break
        occupied.append(box)
