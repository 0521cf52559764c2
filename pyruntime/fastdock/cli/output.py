"""How commands print: Docker's tables, ``--format``, sizes and ages."""

from __future__ import annotations

TYPE_CHECKING = False  # see cli.direct
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

MINIMUM_WIDTH, PADDING = 10, 3  # of a column; tabwriter's settings in Docker


def format_rows(
    rows: Sequence[Mapping[str, Any]],
    format: str | None,
    default: str,
    headers: Mapping[str, str],
) -> str:
    """The rows as ``--format`` wants them: ``table TEMPLATE``, ``json``, a template; ``default`` if it is None.

    ``headers`` has the heading of each field; the heading of another expression is its text.
    """
    if format in (None, "", "table"):
        format = "table " + default
    assert format is not None
    if format == "json":
        from fastdock.cli.template_functions import to_json

        return "".join(to_json(_plain(row)) + "\n" for row in rows)
    format = _unescape(format)
    if not format.startswith("table"):
        render = _renderer(format)
        return "".join(render(row) + "\n" for row in rows)
    format = format.removeprefix("table").lstrip(" ")
    render = _renderer(format)
    return align([render(_Headings(headers)), *(render(row) for row in rows)])


def fields_in(format: str | None, default: str) -> tuple[str, ...] | None:
    """The fields that ``format_rows`` may look at; None: any of them."""
    text = default if format in (None, "", "table") else format
    assert text is not None
    if text == "json":
        return None
    parts = _split(text)
    if parts is not None:
        return tuple(dict.fromkeys(parts[1::2]))
    import re

    if re.search(r"\.(?!\w)|\$", text):
        return None
    return tuple(dict.fromkeys(re.findall(r"\.(\w+)", text)))


def _split(template: str) -> list[str] | None:
    """Text, field, text, … field, text; None where there is more in it than fields."""
    text, *rest = template.split("{{.")
    parts = [text]
    for piece in rest:
        name, end, text = piece.partition("}}")
        if not end or not name.isidentifier():
            return None
        parts += [name, text]
    return None if any("{{" in text for text in parts[::2]) else parts


def _renderer(text: str) -> Callable[[Mapping[str, Any]], str]:
    """A template's ``render``; a quick one where it is fields and no more, as every default is."""
    parts = _split(text)
    if parts is None:
        return _template(text)
    names = parts[1::2]

    def render(row: Mapping[str, Any]) -> str:
        for number, name in enumerate(names):
            value = row.get(name)
            if not isinstance(value, str):
                return _template(text)(row)
            parts[2 * number + 1] = value
        return "".join(parts)

    return render


def _template(text: str) -> Callable[[Mapping[str, Any]], str]:
    from fastdock.cli.template import Template

    return Template(text).render


class _Headings(dict[str, str]):
    """The row above the rows: every field is its own heading."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({name: _Heading(text) for name, text in headers.items()})


class _Heading(str):
    """A heading that survives what templates do to values: as a function (``.Label "x"``) it is its argument."""

    __slots__ = ()

    def __call__(self, *arguments: object) -> str:
        return str(arguments[0]) if arguments else str(self)


def align(lines: Sequence[str], minimum: int = MINIMUM_WIDTH, padding: int = PADDING) -> str:
    """Lines with their tab-separated cells in columns; the last cell of a line is not padded."""
    table = [
        line.split("\t")
        if line.replace("\t", "").isprintable()
        else [printable(cell) for cell in line.split("\t")]
        for line in lines
    ]
    widths: list[int] = []
    for count in range(1, max(map(len, table), default=1)):
        longest = max(len(cells[count - 1]) for cells in table if len(cells) > count)
        widths.append(max(minimum, longest + padding))
    # One format of all the cells is quicker than one of each.
    formats = [
        "".join(f"%-{width}s" for width in widths[:count]) + "%s\n" for count in range(len(widths) + 1)
    ]
    return "".join([formats[len(cells) - 1] % tuple(cells) for cells in table])


def printable(text: str) -> str:
    """Without control characters: what an image says of itself must not steer the terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not callable(value)}


def _unescape(format: str) -> str:
    """Shells leave ``\\t`` and ``\\n`` alone; Docker makes them what they say."""
    return format.replace("\\t", "\t").replace("\\n", "\n")


def human_size(size: float) -> str:
    """Decimal units, four significant digits, as Docker writes sizes: 4.26MB, 929MB, 0B."""
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    number = 0
    while size >= 1000 and number < len(units) - 1:
        size, number = size / 1000, number + 1
    return (
        f"{size:.3g}{units[number]}" if size < 999.5 or number == len(units) - 1 else f"1{units[number + 1]}"
    )


def human_duration(seconds: float) -> str:
    """Docker's words for an age: "About a minute", "3 weeks"."""
    minutes, hours = int(seconds // 60), round(seconds / 3600)
    if seconds < 1:
        return "Less than a second"
    if int(seconds) == 1:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for days, word in ((14, "days"), (60, "weeks"), (730, "months")):
        if hours < 24 * days:
            return f"{hours // 24 // {'days': 1, 'weeks': 7, 'months': 30}[word]} {word}"
    return f"{hours // 24 // 365} years"


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 where it is none."""
    from datetime import datetime

    if text.endswith("Z") and "." in text:  # as our own are
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            pass
    import re

    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", text)
    if not match:
        return 0.0
    zone = "+00:00" if match[3] in "Zz" else match[3]
    try:
        return datetime.fromisoformat(match[1] + zone).timestamp() + float(f"0.{match[2] or 0}")
    except (ValueError, OverflowError):
        return 0.0


def human_age(text: str, now: float) -> str:
    """ "3 days ago", or "N/A" for a time that is not known."""
    seconds = parse_time(text)
    if seconds <= 0:
        return "N/A"
    return human_duration(max(0.0, now - seconds)) + " ago"
