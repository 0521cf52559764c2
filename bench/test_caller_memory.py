"""Issue 2's target: a start from a process that holds 4 GB costs what it costs from a small one, within 10 %."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import note
from fastdock.bench.growth import by_caller_memory
from fastdock.bench.tables import duration


def test_start_from_a_process_of_4_gb(benchmark: Any, rounds: int) -> None:
    """The ratio of the two medians; ``fork (copying)`` shows what is avoided."""
    benchmark.disabled = True
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        curve = benchmark(lambda: by_caller_memory(Path(directory), (10, 4000), rounds=rounds))
    for name, line in curve.lines.items():
        small, large = (series.median for series in line.values())
        benchmark.extra_info[name] = large / small
        note(
            f"start from 10 MiB → 4000 MiB, {name}: {duration(small)} → {duration(large)} ({large / small:.2f} times)"
        )
    assert curve.lines, curve.ended
