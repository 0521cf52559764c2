"""Kernel tests need root.  Each runs here, and once more on cgroup v2 in a VM (see v2.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import v2


@pytest.hookimpl(tryfirst=True)  # before -m and -k select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if v2.REPORT not in os.environ:
        items.extend(v2.doubles([item for item in items if here in item.path.parents]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if v2.REPORT in os.environ:
        v2.write_result(report)


@pytest.fixture(autouse=True)
def _needs_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("FASTDOCK_MUST_WORK"):
            pytest.fail("kernel tests need root")
        pytest.skip("needs root")
