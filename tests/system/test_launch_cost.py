"""A start may not quietly become dearer: its system calls and instructions are compared with those of the last release.

The counts are the same on every run, whatever the load.  After a change that is worth more:
``FASTDOCK_WRITE_BASELINE=1 pytest tests/system/test_launch_cost.py``, and commit launch_cost.json with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdock import Engine, _core
from fastdock.bench.peers.ours import import_workload
from fastdock.bench.syscalls import count_between_marks, count_launch
from fastdock.bench.workload import WORKLOADS, rootfs_for
from fastdock.engine import base_of
from fastdock.options import options_from
from fastdock.planning import plan_of
from support import missing

pytestmark = pytest.mark.system

BASELINE = Path(__file__).with_name("launch_cost.json")
GROWTH = 1.05


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fastdock-cost-", dir="/var/tmp") as directory:
        scratch = Path(directory)
        scratch.chmod(0o755)
        with Engine(root=scratch / "root") as engine:
            import_workload(engine, WORKLOADS["true"], rootfs_for(WORKLOADS["true"], scratch))
        yield scratch / "root"


def shape() -> str:
    """What of a machine the count depends on: its cgroups, and which of the masked paths it has."""
    info = _core.cgroup_info()
    masked = sum(
        Path(path).exists()
        for path in (
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/scsi",
            "/proc/timer_list",
            "/sys/firmware",
        )
    )
    return f"cgroup v{info['version']}, {len(info['hierarchies'])} hierarchies, {masked} masked paths"


def baseline(what: str, counted: dict[str, int]) -> dict[str, int]:
    """The committed counts of this kind of machine; with FASTDOCK_WRITE_BASELINE they become those given."""
    known = json.loads(BASELINE.read_text())
    machine = known.setdefault(shape(), {})
    if os.environ.get("FASTDOCK_WRITE_BASELINE"):
        machine[what] = counted
        BASELINE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    if what not in machine:
        pytest.skip(f"no baseline for a machine like this: {shape()}")
    before: dict[str, int] = machine[what]
    return before


def test_the_core_executes_no_more_instructions_for_a_start_than_it_did(root: Path, tmp_path: Path) -> None:
    """At most 5 % more than the committed baseline of this kind of machine."""
    build = Path(os.environ.get("FASTDOCK_BUILD", Path(__file__).parents[2] / "build/release"))
    program = build / "tests/payload/count_instructions"
    if not program.exists():
        missing(f"{program} is missing (tools/test builds it)")
    with Engine(root=root) as engine:
        planned = plan_of(base_of(engine.store.get("fdbench/busybox")), options_from({}), seccomp_cache="")
    planned.plan.argv = ["/bin/true"]
    plan, state, run = (tmp_path / name for name in ("plan", "state", "run"))
    plan.write_bytes(planned.plan.to_bytes())
    for directory in (state, run):
        directory.mkdir()
    done = subprocess.run([program, plan, state, run, "fastdock-cost"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counted = int(done.stdout)
    before = baseline("instructions", {"start": counted})["start"]
    assert counted <= GROWTH * before, f"{before} -> {counted}"


def test_a_start_makes_no_more_system_calls_than_it_did(root: Path) -> None:
    """At most 5 % more than the committed baseline of this kind of machine."""
    counted = count_launch(root)
    before = baseline("system calls", counted)
    more = {
        name: f"{before.get(name, 0)} -> {count}"
        for name, count in counted.items()
        if count > before.get(name, 0)
    }
    assert sum(counted.values()) <= GROWTH * sum(before.values()), f"more of: {more}"


def test_calls_are_counted_between_marks_and_until_execve() -> None:
    """The reader of strace's output, on a written one."""
    trace = """\
10    openat(AT_FDCWD, "/before", O_RDONLY) = 3
10    newfstatat(AT_FDCWD, "/fastdock-bench-mark", 0x7ffc, 0) = -1 ENOENT (No such file or directory)
10    clone3({flags=CLONE_VM}, 88 <unfinished ...>
11    setsid( <unfinished ...>
10    <... clone3 resumed>) = 11
11    <... setsid resumed>) = 11
10    futex(0x1, FUTEX_WAIT, 1, NULL <unfinished ...>
11    execve("/bin/missing", ["x"], 0x0 /* 0 vars */) = -1 ENOENT (No such file or directory)
11    execve("/bin/true", ["true"], 0x7ffc /* 1 var */ <unfinished ...>
10    <... futex resumed>) = 0
11    <... execve resumed>) = 0
11    openat(AT_FDCWD, "/inside", O_RDONLY) = 3
10    waitid(P_PIDFD, 4, {}, WEXITED, NULL) = 0
11    +++ exited with 0 +++
10    --- SIGCHLD {si_signo=SIGCHLD} ---
10    newfstatat(AT_FDCWD, "/fastdock-bench-mark", 0x7ffc, 0) = -1 ENOENT (No such file or directory)
10    close(3) = 0
"""
    assert count_between_marks(trace.splitlines()) == {"clone3": 1, "execve": 2, "setsid": 1, "waitid": 1}
