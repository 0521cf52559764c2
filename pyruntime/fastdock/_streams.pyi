"""Byte loops in Cython: see _streams.pyx."""

from collections.abc import Iterator

from typing_extensions import Buffer

class LogEntry:
    stream: int
    """1: standard output, 2: standard error."""
    time: float
    """Seconds since the epoch."""
    stamp: str
    """RFC 3339."""
    data: bytes
    def __init__(self, stream: int, time: float, stamp: str, data: bytes) -> None: ...
    def __iter__(self) -> Iterator[int | float | bytes]: ...

def parse_log(block: bytes) -> list[LogEntry]: ...
def plain_log(block: bytes) -> list[tuple[int, bytes]]: ...

class Demultiplexer:
    def __init__(self) -> None: ...
    def feed(self, data: Buffer) -> list[tuple[int, bytes]]: ...
    @property
    def pending(self) -> int: ...

def frame(stream: int, data: bytes) -> bytes: ...
