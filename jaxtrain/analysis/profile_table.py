"""Terminal output of a profile: a table of the longest operations, and lines on speed, gaps and utilization."""

import statistics
from typing import TYPE_CHECKING

from rich.table import Table

from jaxtrain.reporting.tables import format_bytes

if TYPE_CHECKING:
    from jaxtrain.analysis.profile import Profile


def operation_table(profile: "Profile", rows: int) -> Table:
    """Return a table of the `rows` longest operations of the traced steps, by time without their inner operations."""
    operations = profile.trace.operations
    total = sum(op.seconds for op in operations) or 1.0
    table = Table(title=f"operations of a step, by their own time ({profile.steps} steps traced)", title_justify="left")
    table.add_column("operation", overflow="fold")
    for name in ("ms a step", "share", "calls a step"):
        table.add_column(name, justify="right")
    table.add_column("from", overflow="fold")
    for op in operations[:rows]:
        share = f"{100 * op.seconds / total:.1f} %"
        table.add_row(
            op.name,
            _format_ms(op.seconds / profile.steps),
            share,
            f"{op.calls / profile.steps:g}",
            profile.origins.get(op.name, ""),
        )
    rest = operations[rows:]
    if rest:
        seconds = sum(op.seconds for op in rest)
        table.add_row(
            f"{len(rest)} others", _format_ms(seconds / profile.steps), f"{100 * seconds / total:.1f} %", "", ""
        )
    return table


def profile_lines(profile: "Profile") -> list[str]:
    """Return lines on step time, gaps, FLOPs, utilization and bandwidth, and on opening the trace."""
    speed = profile.batch_size / profile.best_seconds
    lines = [
        f"step: {_format_ms(profile.step_seconds)} ms for {profile.batch_size} examples without the profiler, "
        "one step per dispatch"
        + _multi_step(profile)
        + f"; {speed:,.0f} images/s on {profile.devices} x {profile.device}",
        *_gap_lines(profile),
    ]
    if profile.platform == "cpu":
        lines.append(f"threads: {profile.cores:.1f} of {profile.cores_there} cores busy on average")
    return [*lines, *_peak_lines(profile), *_file_lines(profile)]


def _multi_step(profile: "Profile") -> str:
    if profile.together_seconds is None:
        return ""
    time = f"{_format_ms(profile.together_seconds)} ms with {profile.steps} steps per dispatch"
    return f", {time} (train uses up to {profile.together})"


def _gap_lines(profile: "Profile") -> list[str]:
    trace = profile.trace
    if not trace.gaps:
        return []
    gap = statistics.median(trace.gaps)
    window = trace.runs[-1][1] - trace.runs[0][0]
    return [
        f"dispatch gap: {1e6 * gap:,.0f} us from the end of a step to the start of the next (median, traced, one step "
        f"per dispatch); in {100 * (1 - min(trace.busy / window, 1.0)):.1f} % of the time no operation ran"
    ]


def _peak_lines(profile: "Profile") -> list[str]:
    achieved_flops = profile.flops / profile.best_seconds / profile.devices
    lines = [
        f"FLOPs of a step: {profile.flops:,} (matrix multiplications and convolutions), "
        f"{_format_flops(achieved_flops)} per device"
    ]
    for dtype, ceiling in profile.ceilings.flops.items():
        share = 100 * profile.utilization(dtype)
        lines.append(
            f"MFU: {share:.1f} % of the {_format_flops(ceiling)} of a {dtype} matrix multiplication, "
            "measured on this device"
        )
    peak = profile.published
    if peak is not None:
        share = 100 * achieved_flops / (1e12 * peak.half_tflops)
        lines.append(f"MFU: {share:.1f} % of the {peak.half_tflops:g} TFLOP/s in its data sheet (16 bits)")
    if profile.bytes is not None:
        achieved, copied = profile.bytes / profile.best_seconds, profile.ceilings.bandwidth
        stated = f"; data sheet: {peak.gigabytes:,.0f} GB/s" if peak is not None else ""
        lines.append(
            f"memory: {format_bytes(profile.bytes)} per step by XLA's count, which ignores caches: "
            f"{achieved / 1e9:.1f} GB/s, {100 * achieved / copied:.0f} % of the {copied / 1e9:.1f} GB/s "
            f"of a copy{stated}"
        )
    return lines


def _file_lines(profile: "Profile") -> list[str]:
    lines = [f"trace: tensorboard --logdir {profile.files} (with `pip install tensorboard xprof`), tab Profile"]
    if profile.perfetto is not None:
        lines.append(f"    or {profile.perfetto} in https://ui.perfetto.dev")
    return lines


def _format_ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def _format_flops(flops: float) -> str:
    return f"{flops / 1e12:.2f} TFLOP/s" if flops >= 1e11 else f"{flops / 1e9:.2f} GFLOP/s"
