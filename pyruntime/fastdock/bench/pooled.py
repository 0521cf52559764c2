"""Containers of a ``fastdock.Pool`` beside others: what prepares them is not in their time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .measure import Subject, measure
from .peers import Missing
from .peers.ours import Fastdock
from .suites import Bench, Comparison, Progress, at_once
from .workload import WORKLOADS

__all__ = ["Pooled", "pooled", "until_it_runs"]

_SIZE = 4


class Pooled:
    """A pool that is full before each sample, and after it: nothing is prepared beside anybody's."""

    name = "fastdock pool"

    def __init__(self, pool: Any, argv: list[str]) -> None:
        self._pool, self._argv = pool, argv

    def begin(self) -> float:
        """Seconds until the program runs."""
        self._pool.wait_until_ready()
        begin = time.perf_counter()
        process = self._pool.Popen(self._argv)
        seconds = time.perf_counter() - begin
        process.wait()
        self._pool.wait_until_ready()
        return seconds

    def burst(self, count: int) -> float:
        """Seconds until the last of ``count`` has ended; what fills the pool again runs beside them."""
        self._pool.wait_until_ready()
        seconds = at_once(count, count, lambda: self._pool.run(self._argv).check_returncode())
        self._pool.wait_until_ready()
        return seconds


@contextmanager
def pooled(peer: Fastdock, size: int) -> Iterator[Pooled]:
    """Of what this peer has prepared."""
    with peer.pool(size) as pool:
        yield Pooled(pool, WORKLOADS["true"].inside())


def until_it_runs(
    bench: Bench, *, rounds: int = 30, spacing: float = 0.0, progress: Progress | None = None
) -> Comparison:
    """From the call of Popen to its return, when the program runs: with a pool and without."""
    title = f"until `true` runs, {f'{spacing:g} s before each' if spacing else 'back to back'}"
    method = f"{rounds} rounds in turn, 2 to warm up; a pool of {_SIZE}, full before each sample"
    peer = bench.peers.get(Fastdock.name)
    if not isinstance(peer, Fastdock):
        return Comparison(
            title, method, {}, {Fastdock.name: bench.missing.get(Fastdock.name, "not asked for")}
        )
    try:
        peer.prepare(WORKLOADS["true"])
        with pooled(peer, _SIZE) as ours:
            subjects = [Subject(peer.name, peer.begin), Subject(ours.name, ours.begin)]
            series = measure(subjects, rounds=rounds, spacing=spacing, progress=progress)
    except Missing as reason:
        return Comparison(title, method, {}, {Fastdock.name: str(reason)})
    return Comparison(title, method, series)
