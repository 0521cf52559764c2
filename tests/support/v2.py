"""Runs tests once more on a machine with cgroup v2 alone: a VM that vmrun boots.

The folders' conftest.py double some tests with a ``V2Test``; the first of them that runs boots one VM, which runs
all that are selected and writes their results, as they come, to a file shared with the host.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REPORT = "FASTDOCK_V2_REPORT"  # set in the VM: where results go
TIME_LIMIT = 1500  # seconds for the whole VM run; Python is about 16 times slower there
RESULTS = pytest.StashKey[dict[str, dict[str, str]]]()


def vmrun() -> str | None:
    """The program that boots the VM, or None."""
    places = [os.environ.get("FASTDOCK_VMRUN", ""), str(REPOSITORY.parent / "shared/tools/vmrun")]
    places.append("/work/shared/tools/vmrun")
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


def _why_not() -> str | None:
    """Why no VM can be had here."""
    if vmrun() is None:
        return "no vmrun (set FASTDOCK_VMRUN)"
    if os.geteuid() != 0:
        return "vmrun needs root"
    if shutil.which("qemu-system-x86_64") is None:
        return "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
    return None


def _boot_and_run(node_ids: list[str]) -> dict[str, dict[str, str]]:
    """The results in the VM by node id: outcome and text."""
    with tempfile.TemporaryDirectory(prefix="fastdock-v2-") as shared:
        report = Path(shared, "results.jsonl")
        report.touch()
        environment = os.environ | {REPORT: str(report), "FASTDOCK_MUST_WORK": "1"}
        pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-q"]
        pytest_command += ["--rootdir", str(REPOSITORY), "-c", str(REPOSITORY / "pyproject.toml")]
        # Without parameters: their ids may differ from process to process, and pytest stops at one that it
        # does not know.
        functions = dict.fromkeys(node_id.partition("[")[0] for node_id in node_ids)
        pytest_command += [str(REPOSITORY / function) for function in functions]
        command = [str(vmrun()), "--timeout", str(TIME_LIMIT), "--disk", "512", "--dir", shared, "--"]
        done = subprocess.run(command + pytest_command, capture_output=True, text=True, env=environment)
        results: dict[str, dict[str, str]] = {}
        for line in report.read_text().splitlines():
            entry = json.loads(line)
            if results.get(entry["id"], {}).get("outcome") != "failed":  # set-up, call and tear-down
                results[entry["id"]] = entry
    ending = f"vmrun ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    for node_id in node_ids:
        results.setdefault(node_id, {"outcome": "failed", "text": f"did not run in the VM: {ending}"})
    return results


class V2Failure(Exception):
    """A test failed in the VM; its text is the report from there."""


class V2Test(pytest.Item):
    """The result of one test in the VM."""

    def __init__(self, *, original: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.original = original
        self.add_marker("v2")
        self.add_marker(pytest.mark.timeout(TIME_LIMIT + 60))

    def runtest(self) -> None:
        reason = _why_not()
        if reason and not os.environ.get("FASTDOCK_MUST_WORK"):
            pytest.skip(reason)
        assert reason is None, reason
        stash = self.session.stash
        if RESULTS not in stash:
            wanted = [item.original for item in self.session.items if isinstance(item, V2Test)]
            stash[RESULTS] = _boot_and_run(wanted)
        result = stash[RESULTS][self.original]
        if result["outcome"] != "passed":
            raise V2Failure(result["text"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, V2Failure):
            return f"on cgroup v2 (in the VM):\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


def double(items: list[pytest.Item], folder: Path, files: tuple[str, ...]) -> None:
    """Adds a V2Test for each test of these files of the folder, unless it is marked as one for here."""
    if REPORT in os.environ:
        return
    ours = [item for item in items if folder in item.path.parents and item.path.name in files]
    for item in ours:
        elsewhere = item.get_closest_marker("v2") or item.get_closest_marker("here")
        if not elsewhere and item.parent:
            again = V2Test.from_parent(item.parent, name=f"{item.name}@v2", original=item.nodeid)
            again.add_marker("kernel" if item.get_closest_marker("kernel") else "system")
            items.append(again)


def write_result(report: pytest.TestReport) -> None:
    """In the VM: one line for the host.  Skips count as failures there, with their reason."""
    if REPORT not in os.environ:
        return
    if report.when != "call" and report.passed:
        return
    text = f"{report.longreprtext}\n{report.capstdout}"
    entry = {"id": report.nodeid, "outcome": str(report.outcome), "text": text}
    with Path(os.environ[REPORT]).open("a") as file:
        file.write(json.dumps(entry) + "\n")
