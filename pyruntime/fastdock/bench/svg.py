"""Plots as SVG text, without a plotting library: bars on a logarithmic scale, cumulative distributions, curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

__all__ = ["Range", "bars", "cumulative", "curves"]

Range = tuple[float, float, float]  # first quartile, median, third quartile
Format = Callable[[float], str]

_WIDTH = 860
# Okabe and Ito: told apart with any kind of colour vision.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442", "#000000")
_OURS, _OTHERS = "#d55e00", "#56b4e9"


class _Scale:
    """A logarithmic axis from pixels to values; whole decades have lines."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self._low = math.floor(math.log10(min(positive)) * 3) / 3 - 0.05
        self._high = max(math.log10(max(positive)) + 0.1, self._low + 0.5)
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        part = (math.log10(max(value, 10**self._low)) - self._low) / (self._high - self._low)
        return self._begin + part * (self._end - self._begin)

    def ticks(self) -> list[float]:
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        steps = (1, 2, 5) if self._high - self._low < 2 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in found if self._low <= math.log10(value) <= self._high]


def _text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _document(height: float, title: str, parts: Sequence[str]) -> str:
    heading = _text(12, 24, title, style='font-size="15" font-weight="bold"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, DejaVu Sans, sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(title, quote=True)}">'
        f'<rect width="100%" height="100%" fill="white"/>{heading}{"".join(parts)}</svg>\n'
    )


def bars(title: str, rows: Mapping[str, Range], form: Format, *, highlight: str = "fastdock") -> str:
    """One bar per name on a logarithmic scale, with whiskers from quartile to quartile and the value written beside."""
    top, step, left = 44, 24, 150
    scale = _Scale([value for row in rows.values() for value in row], left, _WIDTH - 110)
    height = top + step * len(rows) + 34
    parts = []
    for tick in scale.ticks():
        parts += [
            _line(scale(tick), top - 6, scale(tick), height - 28, "#ddd"),
            _text(scale(tick), height - 12, form(tick), "middle", 'fill="#555"'),
        ]
    for number, (name, (low, middle, high)) in enumerate(rows.items()):
        y = top + step * number
        colour = _OURS if name.startswith(highlight) else _OTHERS
        parts += [
            _text(left - 8, y + 14, name, "end"),
            f'<rect x="{left}" y="{y + 3}" width="{max(1.0, scale(middle) - left):.1f}" height="15" fill="{colour}"/>',
            _line(scale(low), y + 10.5, scale(high), y + 10.5, "#333", 'stroke-width="1.5"'),
            _text(max(scale(high), scale(middle)) + 8, y + 14, form(middle)),
        ]
    return _document(height, title, parts)


def _frame(
    x: _Scale, y: Callable[[float], float], y_ticks: Sequence[tuple[float, str]], x_form: Format, box: Range
) -> list[str]:
    left, top, bottom = box
    right = _WIDTH - 180
    parts = [_line(left, bottom, right, bottom, "#333"), _line(left, top, left, bottom, "#333")]
    for tick in x.ticks():
        parts += [
            _line(x(tick), top, x(tick), bottom, "#eee"),
            _text(x(tick), bottom + 18, x_form(tick), "middle", 'fill="#555"'),
        ]
    for tick, label in y_ticks:
        parts += [
            _line(left, y(tick), right, y(tick), "#eee"),
            _text(left - 6, y(tick) + 4, label, "end", 'fill="#555"'),
        ]
    return parts


def _legend(number: int, name: str, top: float) -> list[str]:
    y, colour = top + 18 * number, _COLOURS[number % len(_COLOURS)]
    dashed = 'stroke-dasharray="5 3" ' if number >= len(_COLOURS) else ""
    return [
        _line(_WIDTH - 170, y, _WIDTH - 145, y, colour, f'{dashed}stroke-width="2.5"'),
        _text(_WIDTH - 138, y + 4, name),
    ]


def _path(points: Sequence[tuple[float, float]], number: int) -> str:
    dashed = 'stroke-dasharray="5 3" ' if number >= len(_COLOURS) else ""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    colour = _COLOURS[number % len(_COLOURS)]
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" {dashed}stroke-width="2"/>'


def cumulative(title: str, samples: Mapping[str, Sequence[float]], form: Format) -> str:
    """The part of the samples that is at most so large, on a logarithmic scale: tails show."""
    left, top, bottom = 60.0, 44.0, max(330.0, 60.0 + 18 * len(samples))
    x = _Scale([value for values in samples.values() for value in values], left, _WIDTH - 190)

    def y(part: float) -> float:
        return bottom - part * (bottom - top)

    parts = _frame(x, y, [(p / 4, f"{25 * p} %") for p in range(5)], form, (left, top, bottom))
    for number, (name, values) in enumerate(samples.items()):
        points = [(x(min(values)), y(0))]
        for rank, value in enumerate(sorted(values)):
            points += [(x(value), y(rank / len(values))), (x(value), y((rank + 1) / len(values)))]
        parts += [_path(points, number), *_legend(number, name, top + 6)]
    return _document(bottom + 30, title, parts)


def curves(
    title: str, lines: Mapping[str, Mapping[float, Range]], x_form: Format, y_form: Format, x_label: str
) -> str:
    """A line per name, with quartile whiskers, on two logarithmic scales."""
    left, top, bottom = 70.0, 44.0, max(360.0, 60.0 + 18 * len(lines))
    x = _Scale([at for line in lines.values() for at in line], left, _WIDTH - 190)
    y = _Scale([value for line in lines.values() for row in line.values() for value in row], bottom, top)
    parts = _frame(x, y, [(tick, y_form(tick)) for tick in y.ticks()], x_form, (left, top, bottom))
    parts.append(_text((left + _WIDTH - 190) / 2, bottom + 36, x_label, "middle", 'fill="#333"'))
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(_path([(x(at), y(middle)) for at, (_, middle, _) in line.items()], number))
        for at, (low, middle, high) in line.items():
            parts += [
                _line(x(at), y(low), x(at), y(high), colour, 'opacity="0.5"'),
                f'<circle cx="{x(at):.1f}" cy="{y(middle):.1f}" r="3" fill="{colour}"/>',
            ]
        parts += _legend(number, name, top + 6)
    return _document(bottom + 46, title, parts)
