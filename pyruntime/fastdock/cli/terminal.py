"""Terminals: their size, and raw mode while somebody types into a container."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
import tty

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def size_of(descriptor: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; (0, 0) where it is none."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return 0, 0
    return rows, columns


def set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Attended:
    """While it is entered, what is typed comes as it is, and ``resize`` is told the size of ``source``."""

    def __init__(self, resize: Callable[[int, int], object], source: int, *, typed: bool) -> None:
        """``typed``: somebody types at descriptor 0."""
        self._tell, self._source = resize, source
        self._typed = typed and os.isatty(0)
        self._before: list[Any] | None = None

    def __enter__(self) -> None:
        if self._typed:
            self._before = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
        signal.signal(signal.SIGWINCH, self._resize)
        self._resize()

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def _resize(self, *_: object) -> None:
        rows, columns = size_of(self._source)
        if rows and columns:
            self._tell(rows, columns)
