"""Throughput: starts per second by several threads of one process."""

from __future__ import annotations

import pytest

from common import Measured, Replay
from fastdock.bench.suites import Bench, parallel


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_parallel_starts(bench: Bench, once: Measured, replay: Replay, threads: int, name: str) -> None:
    """The samples are seconds per start: their reciprocal is the rate."""
    replay(once(f"parallel {threads}", lambda: parallel(bench, threads, names=_quick(bench))), name)


def _quick(bench: Bench) -> list[str]:
    # A VM in software emulation takes seconds each: its rate is that of test_start.
    return [name for name, peer in bench.peers.items() if peer.kind != "vm"]
