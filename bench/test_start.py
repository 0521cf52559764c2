"""Start latency: the same small program by everything that can run it, interleaved."""

from __future__ import annotations

import pytest

from common import Measured, Replay
from fastdock.bench.suites import Bench, start


@pytest.mark.parametrize("workload", ["true", "hello", "python", "web"])
def test_start_back_to_back(
    bench: Bench, once: Measured, replay: Replay, rounds: int, workload: str, name: str
) -> None:
    """Start, run, wait and clean up, one after the other, warm."""
    count = rounds if workload == "true" else max(3, rounds // 2)
    replay(once(f"start {workload}", lambda: start(bench, workload, rounds=count)), name)


def test_start_spaced(bench: Bench, once: Measured, replay: Replay, rounds: int, name: str) -> None:
    """Half a second between starts, as people start containers: engines that wait for RCU show it here."""
    replay(once("spaced", lambda: start(bench, "true", rounds=max(5, rounds // 2), spacing=0.5)), name)


def test_start_cold(bench: Bench, once: Measured, replay: Replay, rounds: int, name: str) -> None:
    """With an empty page cache before each start."""
    replay(once("cold", lambda: start(bench, "true", rounds=max(3, rounds // 4), cold=True)), name)
