"""Cgroups with real processes: what their limits do, and changing them while processes run."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cgroup_box import INFO, IS_V2, MIB, TOP, Box, boxes, nothing_is_left

from fastdock._core import Cgroup, DeviceRule, Limits

pytestmark = pytest.mark.kernel
__all__ = ["boxes", "nothing_is_left"]  # fixtures


def allowed_cpus(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list"))


def test_the_memory_limit_kills_and_is_told(boxes: Any) -> None:
    box = boxes(memory=16 * MIB, memory_swap=16 * MIB)
    assert box.cgroup.warnings == []
    watch = box.cgroup.watch_oom()
    try:
        code, _ = box.run("tail", "/dev/zero")
        assert code == -signal.SIGKILL
        assert select.select([watch], [], [], 60)[0] == [watch]
    finally:
        os.close(watch)
    usage = box.cgroup.usage()
    assert usage["oom_kills"] == 1
    assert usage["memory_peak"] == pytest.approx(16 * MIB, rel=0.1)
    if IS_V2:  # v1 kernels of these days leave memory.failcnt at 0
        assert box.cgroup.statistics()["memory_limit_hits"] > 0


def test_the_pids_limit_stops_forks(boxes: Any) -> None:
    box = boxes(pids=3)
    code, _ = box.run("sh", "-c", "exec >&- 2>&-; sleep inf & sleep inf & sleep inf & exit 0")
    assert code != 0
    assert len(box.cgroup.processes()) <= 3


def test_the_cpu_quota_throttles(boxes: Any) -> None:
    box = boxes(cpu_quota=10_000, cpu_period=100_000)
    box.start("sh", "-c", "while :; do :; done")
    while not box.cgroup.statistics()["throttled_ns"]:
        pass
    statistics = box.cgroup.statistics()
    assert statistics["throttled_periods"] > 0
    assert statistics["periods"] > 0
    assert statistics["cpu_ns"] > 0
    parts = statistics["cpu_user_ns"] + statistics["cpu_system_ns"]
    assert statistics["cpu_ns"] == pytest.approx(parts, rel=0.01)


def test_shares_or_weight(boxes: Any) -> None:
    box = boxes(cpu_shares=2048)
    file, value = ("cpu.weight", "174") if IS_V2 else ("cpu.shares", "2048")
    assert (box.directory("cpu") / file).read_text().strip() == value


def test_the_cpuset_pins(boxes: Any) -> None:
    box = boxes(cpuset_cpus="1")
    process = box.start_ready("echo ready; exec sleep inf")
    assert allowed_cpus(process.pid) == "1"


def a_disk() -> tuple[int, int]:
    """The numbers of a whole disk of this machine."""
    disks = sorted(path for path in Path("/sys/block").iterdir() if not path.name.startswith(("loop", "ram")))
    major, minor = (disks[0] / "dev").read_text().split(":")
    return int(major), int(minor)


def test_disk_limits_are_set_and_lifted(boxes: Any) -> None:
    major, minor = a_disk()
    box = boxes(blkio_write_bps=[(major, minor, 4096)], blkio_read_iops=[(major, minor, 100)])
    bytes_file, operations_file = (
        ("io.max", "io.max")
        if IS_V2
        else ("blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device")
    )
    directory = box.directory("blkio")
    bytes_text, operations_text = (
        ("rbps=max wbps=4096 riops=100 wiops=max",) * 2 if IS_V2 else ("4096", "100")
    )
    assert (directory / bytes_file).read_text() == f"{major}:{minor} {bytes_text}\n"
    assert (directory / operations_file).read_text() == f"{major}:{minor} {operations_text}\n"
    box.cgroup.update(Limits(blkio_write_bps=[(major, minor, 0)], blkio_read_iops=[(major, minor, 0)]))
    assert (directory / bytes_file).read_text() == ""
    assert (directory / operations_file).read_text() == ""


@pytest.fixture
def _hugetlb_stays_as_it_was() -> Iterator[None]:
    """On a hybrid machine hugetlb may be v2's, and off: the limit turns it on at the top."""
    v2 = next(hierarchy["mount_point"] for hierarchy in INFO["hierarchies"] if hierarchy["version"] == 2)
    control = Path(v2, "cgroup.subtree_control")
    before = "hugetlb" in control.read_text().split()
    yield
    (control.parent / TOP).rmdir()
    if not before:
        control.write_text("-hugetlb")


@pytest.mark.usefixtures("_hugetlb_stays_as_it_was")
def test_hugetlb() -> None:
    box = Box(hugetlb={"2MB": 4 * MIB})
    uses = {use["page_size"]: use for use in box.cgroup.statistics()["hugetlb"]}
    assert uses["2MB"] == {"page_size": "2MB", "current": 0, "limit": 4 * MIB, "failures": 0}
    box.end()


def test_devices(boxes: Any) -> None:
    null, zero = (1, 3), (1, 5)
    rules = [DeviceRule("a", access="rwm", allow=False), DeviceRule("c", *null, "rw", True)]
    box = boxes(devices=rules)
    quiet = {"stderr": subprocess.DEVNULL}
    assert box.run("dd", "if=/dev/null", "of=/dev/null", **quiet)[0] == 0
    assert box.run("dd", "if=/dev/zero", "of=/dev/null", "count=1", **quiet)[0] != 0
    assert box.run("mknod", f"/tmp/fastdock-test-node-{os.getpid()}", "c", "1", "3", **quiet)[0] != 0
    # Two rules for one device add up; an update counts for processes that are there already.
    waiting = "read go; exec dd if=/dev/zero of=/dev/null count=1"
    process = box.start("sh", "-c", waiting, stdin=subprocess.PIPE, **quiet)
    more = [DeviceRule("c", *zero, "r", True), DeviceRule("c", *zero, "w", True)]
    box.cgroup.update(Limits(devices=[*rules, *more]))
    process.communicate(b"go\n")
    assert process.returncode == 0
    box.cgroup.update(Limits(devices=rules[:1]))
    assert box.run("dd", "if=/dev/null", **quiet)[0] != 0


def test_unified_is_for_v2(boxes: Any) -> None:
    if IS_V2:
        box = boxes(unified=True, memory=32 * MIB)
        box.cgroup.update(Limits(unified={"memory.high": str(16 * MIB)}))
        assert (box.directory("") / "memory.high").read_text() == f"{16 * MIB}\n"
    else:
        with pytest.raises(OSError, match="no such limit") as raised:
            Cgroup.create(f"{TOP}/x", Limits(unified={"memory.high": "1"}))
        assert raised.value.errno == errno.ENOTSUP


def test_what_a_version_does_not_have_is_a_warning_or_an_error(boxes: Any) -> None:
    box = boxes(memory_swappiness=10, oom_kill_disable=False)
    assert len(box.cgroup.warnings) == (1 if IS_V2 else 0)
    if IS_V2:
        with pytest.raises(OSError, match="no such limit"):
            Cgroup.create(f"{TOP}/x", Limits(cpu_rt_runtime=1000))


# ------------------------------------------------------------------ update


HOLD_20_MB = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; while read -r line; do :; done"


def hold_20_mb(box: Box) -> subprocess.Popen[bytes]:
    """A process that has 20 MB of memory in use that cannot be reclaimed."""
    process = box.start("sh", "-c", HOLD_20_MB, stdin=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def test_update_up_and_down_while_it_runs(boxes: Any) -> None:
    box = boxes(memory=64 * MIB, memory_swap=64 * MIB)
    hold_20_mb(box)
    for memory, total in [(128, 256), (256, -1), (48, 48), (96, 96), (-1, -1), (64, 80)]:
        limit = memory * MIB if memory > 0 else -1
        box.cgroup.update(Limits(memory=limit, memory_swap=total * MIB if total > 0 else -1, pids=memory))
        statistics = box.cgroup.statistics()
        assert statistics["memory_limit"] == (limit if memory > 0 else None)
        assert statistics["swap_limit"] == ((total - memory) * MIB if total > 0 else None)
        assert statistics["pids_limit"] == (memory if memory > 0 else None)
    box.cgroup.update(Limits(cpu_quota=20_000, cpu_period=50_000))
    box.cgroup.update(Limits(cpu_quota=200_000))
    box.cgroup.update(Limits(cpu_period=10_000, cpu_quota=5_000, cpu_burst=5_000))
    box.cgroup.update(Limits(cpu_quota=2_000, cpu_burst=1_000))
    directory = box.directory("cpu")
    if IS_V2:
        assert (directory / "cpu.max").read_text() == "2000 10000\n"
    else:
        assert (directory / "cpu.cfs_quota_us").read_text() == "2000\n"
        assert (directory / "cpu.cfs_period_us").read_text() == "10000\n"
    box.cgroup.update(Limits(cpu_quota=-1))


def test_update_below_what_is_in_use_is_refused_whole(boxes: Any) -> None:
    box = boxes(memory=64 * MIB, memory_swap=64 * MIB, cpu_shares=512)
    process = hold_20_mb(box)
    weight = box.directory("cpu") / ("cpu.weight" if IS_V2 else "cpu.shares")
    before = weight.read_text()
    with pytest.raises(OSError, match="in use now") as raised:
        box.cgroup.update(Limits(cpu_shares=4096, memory=8 * MIB, memory_swap=8 * MIB))
    assert raised.value.errno == errno.EBUSY
    assert process.poll() is None
    assert box.cgroup.usage()["oom_kills"] == 0
    assert box.cgroup.statistics()["memory_limit"] == 64 * MIB
    assert weight.read_text() == before


def test_update_of_memory_alone_above_the_total_says_so(boxes: Any) -> None:
    box = boxes(memory=32 * MIB, memory_swap=32 * MIB)
    if IS_V2:
        box.cgroup.update(Limits(memory=64 * MIB))  # swap is a limit of its own there
        assert box.cgroup.statistics()["memory_limit"] == 64 * MIB
    else:
        with pytest.raises(OSError, match="set both at once"):
            box.cgroup.update(Limits(memory=64 * MIB))


def test_update_can_need_another_hierarchy(boxes: Any) -> None:
    box = boxes()
    process = box.start_ready("(echo ready; exec sleep inf) & wait")
    box.cgroup.update(Limits(cpuset_cpus="0"))
    assert {allowed_cpus(pid) for pid in box.cgroup.processes()} == {"0"}
    box.cgroup.update(Limits(cpuset_cpus="0-1"))
    assert allowed_cpus(process.pid) == "0-1"
    later = box.start_ready("echo ready; exec sleep inf")
    assert f":/{TOP}/box\n" in Path(f"/proc/{later.pid}/cgroup").read_text()
