"""``fastdock bench`` on this machine."""

from __future__ import annotations

import pytest

from fastdock.bench.report import Report
from fastdock.bench.runs import run

pytestmark = pytest.mark.kernel


def test_what_a_suite_has_measured_is_saved_before_the_next_begins() -> None:
    saved: list[str] = []
    run(["start", "exec"], names=["fork+exec"], rounds=3, save=lambda report: saved.append(report.to_json()))
    first, second = (Report.from_json(text) for text in saved)
    assert [list(comparison.measured()) for comparison in first.comparisons] == [["fork+exec"]] * 4
    assert len(second.comparisons) == 6
