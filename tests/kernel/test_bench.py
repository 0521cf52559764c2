"""``fastdock bench`` on this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastdock.bench.report import Report
from fastdock.bench.runs import run
from fastdock.bench.suites import Bench
from fastdock.bench.workload import WORKLOADS

pytestmark = pytest.mark.kernel


def test_each_comparison_is_saved_before_the_next_begins() -> None:
    saved: list[str] = []
    run(["start", "exec"], names=["fork+exec"], rounds=3, save=lambda report: saved.append(report.to_json()))
    reports = [Report.from_json(text) for text in saved]
    assert [len(report.comparisons) for report in reports] == list(range(1, len(reports) + 1))
    assert len(reports) > 5
    assert [list(one.measured()) for one in reports[0].comparisons] == [["fork+exec"]]


def test_each_curve_is_saved_before_the_next_begins() -> None:
    seen: list[int] = []

    class Enough(Exception):
        """Ends the run, as a signal would."""

    def save(report: Report) -> None:
        seen.append(len(report.curves))
        if len(seen) == 2:
            raise Enough

    with pytest.raises(Enough):
        run(["growth"], names=["fork+exec"], rounds=3, save=save)
    assert seen == [1, 2]


def test_another_run_that_ends_takes_nothing_of_ours() -> None:
    with tempfile.TemporaryDirectory(prefix="fdbench-", dir="/var/tmp") as scratch:
        Path(scratch).chmod(0o755)
        with Bench(Path(scratch), ["floor"]) as bench:
            floor = bench.peers["floor"]
            floor.prepare(WORKLOADS["true"])
            floor.run()
            other = [sys.executable, "-m", "fastdock", "bench", "exec", "--against", "floor", "--rounds", "3"]
            subprocess.run(other, check=True, capture_output=True)
            floor.run()
