"""Cgroups with real processes: freeze, kill, remove."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cgroup_box import MIB, boxes, leftovers, nothing_is_left

pytestmark = pytest.mark.kernel
__all__ = ["boxes", "nothing_is_left"]  # fixtures

unified_or_not = pytest.mark.parametrize("unified", [True, False], ids=["unified", "v1-only"])


@unified_or_not
def test_freeze_and_thaw(boxes: Any, unified: bool) -> None:
    box = boxes(unified=unified)
    process = box.start("sh", "-c", "while :; do echo x; done")
    assert process.stdout
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    select.select([output], [], [])
    box.cgroup.freeze()
    assert box.cgroup.is_frozen()
    while select.select([output], [], [], 0)[0]:
        os.read(output, 1 << 20)
    subprocess.run(["true"], check=True)  # time enough to write, for a process that runs
    assert select.select([output], [], [], 0)[0] == []
    box.cgroup.freeze(False)
    assert not box.cgroup.is_frozen()
    assert select.select([output], [], [], 60)[0] == [output]


FORK_STORM = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"


@unified_or_not
def test_kill_ends_a_fork_storm(boxes: Any, unified: bool) -> None:
    box = boxes(unified=unified, pids=60, memory=512 * MIB)
    process = box.start(sys.executable, "-S", "-c", FORK_STORM)
    while box.cgroup.statistics()["pids_current"] < 30:
        assert process.poll() is None
    box.cgroup.kill(timeout=60)
    assert box.cgroup.processes() == []
    assert process.wait() == -signal.SIGKILL


@unified_or_not
def test_kill_takes_frozen_and_nested_processes(boxes: Any, unified: bool) -> None:
    box = boxes(unified=unified)
    process = box.start_ready("(sleep inf & sleep inf & sleep inf) & echo ready; exec sleep inf")
    for directory in {*box.cgroup.directories().values()}:
        nested = Path(directory, "nested")
        nested.mkdir()
        (nested / "cgroup.procs").write_text(str(process.pid))
    box.cgroup.freeze()
    box.cgroup.kill(timeout=60)
    assert box.cgroup.processes() == []
    assert process.wait() == -signal.SIGKILL


def test_remove_takes_nested_cgroups_too(boxes: Any) -> None:
    box = boxes(cpuset_cpus="0")
    for directory in {*box.cgroup.directories().values()}:
        Path(directory, "a/b").mkdir(parents=True)
        Path(directory, "c").mkdir()
    box.cgroup.remove()
    box.cgroup.remove()  # gone already
    with pytest.raises(FileNotFoundError):
        box.cgroup.usage()


@unified_or_not
def test_remove_waits_for_the_dying(boxes: Any, unified: bool) -> None:
    box = boxes(unified=unified)
    processes = [box.start_ready("echo ready; exec sleep inf") for _ in range(5)]
    for process in processes:
        process.kill()
    box.cgroup.remove(timeout=60)  # they are zombies at best: nobody has waited for them
    assert leftovers() == []


def test_remove_does_not_kill(boxes: Any) -> None:
    box = boxes()
    process = box.start_ready("echo ready; exec sleep inf")
    with pytest.raises(OSError, match="remove the cgroup") as raised:
        box.cgroup.remove(timeout=0)
    assert raised.value.errno == errno.EBUSY
    assert "processes in it have not ended" in str(raised.value)
    assert process.poll() is None
    assert box.cgroup.processes() == [process.pid]
