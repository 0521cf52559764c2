"""The functions of ``--format`` templates: Docker's, and text/template's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def is_true(value: Any) -> bool:
    """Go's truth: what is not false, 0, nil or empty."""
    return bool(value)


def show(value: Any) -> str:
    """A value as Go's ``%v`` writes it."""
    if value is None:
        return "<no value>"
    return _show(value)


def _show(value: Any) -> str:
    if type(value) is str:  # nearly always, and the checks of abstract classes below are slow
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, Mapping):
        pairs = sorted((str(key), item) for key, item in value.items())
        return "map[" + " ".join(f"{key}:{_show(item)}" for key, item in pairs) + "]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + " ".join(map(_show, value)) + "]"
    return str(value)


def to_json(value: Any) -> str:
    """As Go's encoder without HTML escapes."""
    if isinstance(value, Mapping):  # methods, as ``.Label "x"``, are no members
        value = {key: member for key, member in value.items() if not callable(member)}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return value() if callable(value) else str(value)


def _join(items: Any, separator: str = "") -> str:
    return separator.join(map(_show, items or []))


def _truncate(text: str, length: int) -> str:
    return str(text)[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + str(text) + " " * after if text else str(text)


def _title(text: str) -> str:
    return re.sub(r"(^|\s)(\S)", lambda match: match[1] + match[2].upper(), str(text))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            # Go: a map of strings gives "" for what it has not.
            missing = "" if all(isinstance(item, str) for item in value.values()) else None
            value = value.get(key, missing)
        elif isinstance(value, Sequence):
            if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TypeError(f"can't index item of {show(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start, end = (*bounds, *(0, len(value))[len(bounds) :]) if len(bounds) < 2 else bounds[:2]
    if not 0 <= start <= end <= len(value):
        raise IndexError("slice out of range")
    return value[start:end]


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        if isinstance(one, str) != isinstance(other, str):
            raise TypeError("incompatible types for comparison")
        return test(one, other)

    return compare


def _println(*values: Any) -> str:
    return " ".join(map(show, values)) + "\n"


def _print(*values: Any) -> str:
    """Blanks only between operands of which neither is a string (fmt.Sprint)."""
    text = ""
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            text += " "
        text += show(value)
    return text


_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")


def _printf(text: str, *values: Any) -> str:
    rest = list(values)

    def replace(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "dxXo" and isinstance(value, int):
            return ("%" + flags + width + verb) % value
        if verb in "feEgG" and isinstance(value, int | float):
            return ("%" + flags + width + (f".{precision}" if precision else "") + verb) % value
        if verb == "q":
            value = json.dumps(str(value), ensure_ascii=False)
        elif verb not in "vst":
            return f"%!{verb}({show(value)})"
        shown = show(value)[: int(precision)] if precision else show(value)
        return ("%" + ("-" if "-" in flags else "") + width + "s") % shown

    result = _VERB.sub(replace, text)
    return result + (f"%!(EXTRA {', '.join(map(show, rest))})" if rest else "")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": to_json,
    "join": _join,
    "split": lambda text, separator: str(text).split(separator) if separator else list(str(text)),
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "title": _title,
    "pad": _pad,
    "truncate": _truncate,
    "println": _println,
    "print": _print,
    "printf": _printf,
    "len": len,
    "index": _index,
    "slice": _slice,
    "not": lambda value: not is_true(value),
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "eq": lambda one, *others: any(one == other for other in others),
    "ne": lambda one, other: one != other,
    "lt": _compare(lambda one, other: one < other),
    "le": _compare(lambda one, other: one <= other),
    "gt": _compare(lambda one, other: one > other),
    "ge": _compare(lambda one, other: one >= other),
}
