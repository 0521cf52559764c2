"""Growth: what a start costs beside many containers, on many layers, from a large process, with many starters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common import note
from fastdock.bench.growth import Curve, by_caller_memory, by_layers, by_running, by_starters
from fastdock.bench.suites import Bench
from fastdock.bench.tables import curve_text

NAMES = ("fastdock", "fastdock on disk", "floor", "crun", "docker")


@pytest.fixture
def keep(benchmark: Any) -> Callable[[Callable[[], Curve]], None]:
    """Measures a curve, keeps it in the benchmark's JSON and prints it at the end."""

    def into(take: Callable[[], Curve]) -> None:
        benchmark.disabled = True  # the figures are a curve, not one time
        curve = benchmark(take)
        benchmark.extra_info["curve"] = {
            name: {str(at): series.values for at, series in line.items()}
            for name, line in curve.lines.items()
        }
        benchmark.extra_info["method"], benchmark.extra_info["ended"] = curve.method, curve.ended
        note(curve_text(curve))
        assert curve.lines, curve.ended

    return into


@pytest.fixture
def scratch() -> Iterator[Path]:
    # Not below pytest's own directory: that one is closed to the containers' ids.
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_by_running_containers(bench: Bench, keep: Callable[[Callable[[], Curve]], None]) -> None:
    """1 to 1,000 idle containers of the same engine; a line ends where a step would take over four minutes."""
    names = [name for name in NAMES if name != "floor"]
    keep(lambda: by_running(bench, names, (0, 1, 3, 10, 30, 100, 300, 1000)))


def test_by_layers(
    bench: Bench, scratch: Path, rounds: int, keep: Callable[[Callable[[], Curve]], None]
) -> None:
    """Images of 1 to 120 layers (docker itself ends at 127)."""
    keep(lambda: by_layers(bench, scratch, NAMES, (1, 4, 16, 64, 120), rounds=rounds))


def test_by_memory_of_the_caller(
    bench: Bench, scratch: Path, rounds: int, keep: Callable[[Callable[[], Curve]], None]
) -> None:
    """A Python process that holds 10 MB to 8 GB."""
    names = [name for name in ("fastdock", "crun", "docker") if name in bench.peers]
    keep(lambda: by_caller_memory(scratch, (10, 100, 1000, 4000, 8000), names, rounds=rounds))


def test_by_starters(bench: Bench, keep: Callable[[Callable[[], Curve]], None]) -> None:
    """1 to 32 threads that start containers."""
    keep(lambda: by_starters(bench, NAMES, (1, 2, 4, 8, 16, 32)))
