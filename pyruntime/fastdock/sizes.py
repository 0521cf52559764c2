"""Sizes as users write them."""

from __future__ import annotations

from fastdock._errors import LimitError
from fastdock._light import Pattern

Size = int | str
"""Bytes, or Docker's text: ``"64m"``, ``"1.5g"``, ``"512"``."""

LARGEST = (1 << 63) - 1
"""What the kernel's signed 64 bits hold."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = Pattern(r"(\d{1,19})(\.\d{1,19})? ?([kmgtp]?)(?:i?b)?", "ai")


def parse_size(value: Size, what: str) -> int:
    """Bytes from ``64m``, ``1.5g``, ``512b`` or a number.  Raises LimitError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise LimitError(f"{what}: {value} is negative", operation="read", path=what)
        return _checked(value, value, what)
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise LimitError(
            f"{what}: {value!r} is not a size; write bytes or a number with b, k, m, g or t, as in 64m",
            operation="read",
            path=what,
        )
    unit = _UNITS[match[3].lower()]
    size = int(match[1]) * unit + int(float(match[2] or 0) * unit)
    return _checked(size, value, what)


def _checked(size: int, value: Size, what: str) -> int:
    if size > LARGEST:
        raise LimitError(f"{what}: {value!r} is more than 64 bits hold", operation="read", path=what)
    return size


def parse_swap(value: Size) -> int:
    """Like parse_size; -1 means without limit."""
    return -1 if str(value).strip() == "-1" else parse_size(value, "memory_swap")
