"""Sizes as users write them."""

from __future__ import annotations

import re

from fastdock._errors import LimitError

Size = int | str
"""Bytes, or Docker's text: ``"64m"``, ``"1.5g"``, ``"512"``."""

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:i?b)?", re.IGNORECASE)


def parse_size(value: Size, what: str) -> int:
    """Bytes from ``64m``, ``1.5g``, ``512b`` or a number.  Raises LimitError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise LimitError(f"{what}: {value} is negative", operation="read", path=what)
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise LimitError(
            f"{what}: {value!r} is not a size; write bytes or a number with b, k, m, g or t, as in 64m",
            operation="read",
            path=what,
        )
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_swap(value: Size) -> int:
    """Like parse_size; -1 means without limit."""
    return -1 if str(value).strip() == "-1" else parse_size(value, "memory_swap")
