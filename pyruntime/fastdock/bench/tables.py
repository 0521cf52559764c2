"""Comparisons as text: for the terminal, and as Markdown for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .footprint import Footprint
from .growth import Curve
from .measure import Series, ratio
from .suites import Comparison

__all__ = ["curve_text", "duration", "markdown", "memory_text", "size", "text"]

_BASES = ("floor", "fastdock")  # what the others are compared with, where they were measured


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def size(bytes_: float) -> str:
    """A size with its unit."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(bytes_) >= scale:
            return f"{bytes_ / scale:.3g} {unit}"
    return f"{bytes_:.0f} B"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _rows(comparison: Comparison, bases: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    measured = comparison.measured()
    head = ["", "median", "quartiles", "samples"]
    references = [measured[name] for name in bases if name in measured]
    head += [f"÷ {one.name}" for one in references]
    rows = []
    for name, series in measured.items():
        low, high = series.spread
        row = [name, duration(series.median), f"{duration(low)} … {duration(high)}", str(len(series.samples))]
        row += [_ratio(series, one) for one in references]
        rows.append(row)
    return head, rows


def _ratio(series: Series, reference: Series) -> str:
    try:
        low, middle, high = ratio(series, reference)
    except ValueError:
        return "—"
    return f"{_times(middle)} ({_times(low)} … {_times(high)})"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]


def text(comparison: Comparison, bases: Sequence[str] = _BASES) -> str:
    """A table for a terminal, with the reasons of those that were not measured below it."""
    head, rows = _rows(comparison, bases)
    lines = [f"{comparison.title} ({comparison.method})", *_aligned(head, rows)]
    lines += [f"not measured: {name}: {reason}" for name, reason in comparison.not_measured().items()]
    return "\n".join(lines)


def markdown(comparison: Comparison, bases: Sequence[str] = _BASES) -> str:
    """The same as a Markdown table."""
    head, rows = _rows(comparison, bases)
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    lines.insert(1, "|" + " --- |" * len(head))
    reasons = comparison.not_measured()
    if reasons:
        lines += [
            "",
            "Not measured: " + "; ".join(f"{name} ({reason})" for name, reason in reasons.items()) + ".",
        ]
    return "\n".join(lines)


def memory_text(found: Mapping[str, Sequence[Footprint]], missing: Mapping[str, str]) -> str:
    """What engines keep in memory, per number of idle containers; and why others were not measured."""
    head = ["", "containers", "engine's processes", "added by each", "in the guest", "kernel", "workload itself",
            "page cache shared", "charged to cgroups"]  # fmt: skip
    rows = []
    for name, footprints in found.items():
        idle = footprints[0]
        for one in footprints:
            each = size(one.per_container(idle)) if one.containers else "—"
            rows.append(
                [name, str(one.containers), size(one.engine), each, size(one.guest) if one.guest else "—",
                 *map(size, (one.kernel, one.workload, one.page_cache, one.charged))]
            )  # fmt: skip
    lines = ["memory for idle containers", *_aligned(head, rows)]
    return "\n".join([*lines, *(f"not measured: {name}: {reason}" for name, reason in missing.items())])


def curve_text(curve: Curve) -> str:
    """A growth curve as a table: a row per size, a column per subject."""
    sizes = sorted({at for line in curve.lines.values() for at in line})
    head = [curve.along, *curve.lines]
    rows = [
        [f"{at:g}", *(duration(line[at].median) if at in line else "—" for line in curve.lines.values())]
        for at in sizes
    ]
    lines = [f"{curve.title} ({curve.method})" if curve.method else curve.title, *_aligned(head, rows)]
    for name, reason in curve.ended.items():
        lines.append(f"{name} ends: {reason}" if name in curve.lines else f"not measured: {name}: {reason}")
    return "\n".join(lines)
