"""One run's figures: kept as JSON, shown as text, and as an HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from . import svg
from .footprint import Footprint
from .growth import Curve
from .measure import Series, quartiles
from .suites import Comparison
from .tables import curve_text, duration, markdown, memory_text, size, text

__all__ = ["Report", "write_plots"]


@dataclass
class Report:
    """Everything that was measured in one run, and on what."""

    machine: dict[str, str]
    versions: dict[str, str]
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    memory: dict[str, list[Footprint]] = field(default_factory=dict)
    memory_missing: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """All tables for a terminal."""
        parts = ["machine: " + ", ".join(f"{key} {value}" for key, value in self.machine.items())]
        parts += [text(one) for one in self.comparisons]
        parts += [curve_text(one) for one in self.curves]
        if self.memory or self.memory_missing:
            parts.append(memory_text(self.memory, self.memory_missing))
        return "\n\n".join(parts)

    def plots(self) -> dict[str, str]:
        """SVG documents by a name that can be a file's."""
        found = {}
        for number, one in enumerate(self.comparisons, 1):
            measured = one.measured()
            if measured:
                ranges = {name: quartiles(series.values) for name, series in measured.items()}
                found[f"{number:02}-bars"] = svg.bars(one.title, ranges, duration)
                samples = {name: series.values for name, series in measured.items()}
                found[f"{number:02}-cumulative"] = svg.cumulative(one.title, samples, duration)
        for number, curve in enumerate(self.curves, 1):
            if curve.lines:
                lines = {
                    name: {at: quartiles(series.values) for at, series in line.items()}
                    for name, line in curve.lines.items()
                }
                found[f"growth-{number}"] = svg.curves(
                    curve.title, lines, lambda value: f"{value:g}", duration, curve.along
                )
        added = {
            name: max(1.0, rows[-1].per_container(rows[0]))
            for name, rows in self.memory.items()
            if len(rows) > 1
        }
        if added:
            bars = {
                name: (value, value, value) for name, value in sorted(added.items(), key=lambda item: item[1])
            }
            found["memory"] = svg.bars("memory of the engine for each idle container", bars, size)
        return found

    def html(self) -> str:
        """A self-contained page."""
        described = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in {**self.machine, **self.versions}.items()
        )
        plots = self.plots()
        body = [f"<h1>fastdock bench</h1><table>{described}</table>"]
        for number, one in enumerate(self.comparisons, 1):
            body.append(
                f"<h2>{escape(one.title)}</h2>{plots.get(f'{number:02}-bars', '')}"
                f"<details><summary>distribution and table</summary>{plots.get(f'{number:02}-cumulative', '')}"
                f"<pre>{escape(text(one))}</pre></details>"
            )
        for number, curve in enumerate(self.curves, 1):
            drawn = plots.get(f"growth-{number}", "")
            body.append(f"<h2>{escape(curve.title)}</h2>{drawn}<pre>{escape(curve_text(curve))}</pre>")
        if self.memory or self.memory_missing:
            table = escape(memory_text(self.memory, self.memory_missing))
            body.append(f"<h2>memory</h2>{plots.get('memory', '')}<pre>{table}</pre>")
        style = (
            "body{font-family:system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
            "th{text-align:left;padding-right:1em}"
            "svg{max-width:100%;height:auto;border:1px solid #ddd}pre{overflow-x:auto}"
        )
        return (
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>fastdock bench</title><style>{style}</style>{''.join(body)}</html>\n"
        )

    def markdown(self) -> str:
        """The first comparison as a Markdown table, with the date and the machine: for the README."""
        first = self.comparisons[0]
        on = self.machine
        where = f"{on['date'][:10]}, {on['cores']} cores ({on['processor']}), Linux {on['kernel']}, "
        where += f"cgroup {on['cgroups']}, load {on['load'].split()[0]} at the start"
        return f"{first.title}; {first.method}. Measured {where}.\n\n{markdown(first)}"

    def to_json(self) -> str:
        """All samples, so that other ratios can be made of them later."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, written: str) -> Report:
        """The inverse of to_json.  Raises ValueError on something else."""
        try:
            raw = json.loads(written)
            return cls(
                raw["machine"],
                raw["versions"],
                [
                    Comparison(c["title"], c["method"], _series(c["series"]), c["missing"])
                    for c in raw["comparisons"]
                ],
                [
                    Curve(
                        c["title"],
                        c["along"],
                        {
                            n: {float(at): s for at, s in _series(line).items()}
                            for n, line in c["lines"].items()
                        },
                        c["ended"],
                        c.get("method", ""),
                    )
                    for c in raw["curves"]
                ],
                {name: [Footprint(**row) for row in rows] for name, rows in raw["memory"].items()},
                raw.get("memory_missing", {}),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"this is not a report of fastdock bench: {error!r}") from error


def _series(raw: Mapping[str, Any]) -> dict[str, Series]:
    return {
        key: Series(one["name"], {int(n): value for n, value in one["samples"].items()}, one["failure"])
        for key, one in raw.items()
    }


def write_plots(plots: Mapping[str, str], directory: Path) -> Sequence[Path]:
    """Writes each plot as SVG, and as PNG too if resvg-py is installed (``pip install fastdock[bench]``)."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in plots.items():
        target = directory / f"{name}.svg"
        target.write_text(document)
        written.append(target)
        picture = _png(document)
        if picture is not None:
            target.with_suffix(".png").write_bytes(picture)
            written.append(target.with_suffix(".png"))
    return written


def _png(document: str) -> bytes | None:
    try:
        import resvg_py  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return bytes(
        resvg_py.svg_to_bytes(svg_string=document, font_family="DejaVu Sans", sans_serif_family="DejaVu Sans")
    )
