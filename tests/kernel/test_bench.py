"""``fastdock bench`` on this machine."""

from __future__ import annotations

import pytest

from fastdock.bench.report import Report
from fastdock.bench.runs import run

pytestmark = pytest.mark.kernel


def test_each_comparison_is_saved_before_the_next_begins() -> None:
    saved: list[str] = []
    run(["start", "exec"], names=["fork+exec"], rounds=3, save=lambda report: saved.append(report.to_json()))
    reports = [Report.from_json(text) for text in saved]
    assert [len(report.comparisons) for report in reports] == [1, 2, 3, 4, 5, 6, 7]
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
