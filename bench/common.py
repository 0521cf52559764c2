"""What the benchmark modules and their conftest share."""

from __future__ import annotations

from collections.abc import Callable

from fastdock.bench.measure import Series
from fastdock.bench.peers import PEERS
from fastdock.bench.suites import Comparison

PEER_NAMES = [kind.name for kind in PEERS]
NOTES: list[str] = []  # printed when the session ends

Measured = Callable[[str, Callable[[], Comparison]], Comparison]
Replay = Callable[[Comparison, str], Series]


def note(words: str) -> None:
    """Prints words at the end of the session."""
    NOTES.append(words)


class ReplayClock:
    """A clock that stands still until a sample is replayed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = ReplayClock()
