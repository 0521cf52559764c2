"""Cgroups with real processes: create, open, join, statistics."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from cgroup_box import INFO, IS_V2, MIB, MOUNTS, TOP, Box, boxes, leftovers, nothing_is_left

from fastdock._core import Cgroup, DeviceRule, Limits
from fastdock._errors import KernelError

pytestmark = pytest.mark.kernel
__all__ = ["boxes", "nothing_is_left"]  # fixtures


def test_a_process_that_joins_is_in_every_hierarchy_and_is_counted(boxes: Any) -> None:
    box = boxes(memory=64 * MIB, pids=7)
    process = box.start_ready("echo ready; exec sleep inf")
    own = Path(f"/proc/{process.pid}/cgroup").read_text()
    for controller in [""] if IS_V2 else ["memory", "pids", "cpu"]:
        assert f"{controller}:/{TOP}/box\n" in own
    assert box.cgroup.processes() == [process.pid]
    assert Cgroup.open(f"{TOP}/box").processes() == [process.pid]
    statistics = box.cgroup.statistics()
    assert statistics["pids_current"] == 1
    assert statistics["pids_limit"] == 7
    assert statistics["memory_limit"] == 64 * MIB
    assert 0 < statistics["memory_current"] <= statistics["memory_peak"]
    assert "pgfault" in statistics["memory_stat"]
    assert statistics["cpu_ns"] > 0


def test_add_moves_a_foreign_process(boxes: Any) -> None:
    box = boxes()
    with subprocess.Popen(["sleep", "inf"]) as process:
        box.cgroup.add(process.pid)
        assert box.cgroup.processes() == [process.pid]
        box.cgroup.kill()
    with pytest.raises(ProcessLookupError):
        box.cgroup.add(process.pid)
    with pytest.raises(OSError, match="join the cgroup"):
        box.cgroup.add(0)  # would be the caller


def test_all_controllers_is_every_hierarchy(boxes: Any) -> None:
    box = boxes(all_controllers=True)
    directories = box.cgroup.directories()
    for hierarchy in INFO["hierarchies"]:
        assert hierarchy["version"] == 2 or set(hierarchy["controllers"]) <= set(directories)
    code, output = box.run("cat", "/proc/self/cgroup")
    assert code == 0
    assert output.count(f":/{TOP}/box\n".encode()) == len(INFO["hierarchies"])


def test_an_absolute_path_is_below_the_mount_points(boxes: Any) -> None:
    box = boxes()
    again = Cgroup.open(f"/{TOP}/box")
    assert again.directories() == box.cgroup.directories()


def test_open_of_nothing() -> None:
    with pytest.raises(FileNotFoundError):
        Cgroup.open(f"{TOP}/none")


@pytest.mark.parametrize("path", ["", "/", "../x", "TOP/../../x", "TOP//x", "TOP/a\nb", "TOP/."])
def test_a_path_cannot_lead_elsewhere(path: str) -> None:
    with pytest.raises(OSError, match="create the cgroup"):
        Cgroup.create(path.replace("TOP", TOP))


@pytest.mark.parametrize(
    "limits",
    [
        {"cpuset_cpus": "4000"},
        {"cpuset_cpus": "nonsense"},
        {"cpu_quota": 7, "cpu_period": 1},
        {"hugetlb": {"3MB": 1}},
        {"rdma": [("no-such-device", 1, 1)]},
        {"memory": 10 * MIB, "memory_swap": 5 * MIB},
        {"devices": [DeviceRule("x")]},
        {"unified": {"../cgroup.procs": "0"}},
        {"blkio_read_bps": [(4000, 0, 1)], "blkio_write_bps": [(4000, 0, 1)]},
    ],
    ids=lambda limits: ",".join(limits),
)
def test_a_limit_that_is_refused_leaves_nothing(limits: dict[str, Any]) -> None:
    with pytest.raises(KernelError) as raised:
        Cgroup.create(f"{TOP}/refused", Limits(memory_reservation=MIB, **limits))
    assert raised.value.hint
    assert [mount for mount in MOUNTS if (mount / TOP).exists()] == []


def test_a_taken_name_is_refused_and_the_other_lives_on(boxes: Any) -> None:
    box = boxes()
    process = box.start_ready("echo ready; exec sleep inf")
    with pytest.raises(FileExistsError):
        Cgroup.create(f"{TOP}/box", Limits(pids=1))
    assert box.cgroup.processes() == [process.pid]


def test_below_a_cgroup_that_holds_processes_itself(boxes: Any) -> None:
    box = boxes()
    process = box.start_ready("echo ready; exec sleep inf")
    inner = Cgroup.create(f"{TOP}/box/unlimited")  # v2: a cgroup, but without controllers
    inner.add(process.pid)
    assert inner.processes() == [process.pid]
    box.cgroup.add(process.pid)
    inner.remove()
    if IS_V2:
        with pytest.raises(OSError, match="cgroup holds processes itself") as raised:
            Cgroup.create(f"{TOP}/box/limited", Limits(memory=64 * MIB))
        assert raised.value.errno == errno.EBUSY
    else:
        limited = Cgroup.create(f"{TOP}/box/limited", Limits(memory=64 * MIB))
        limited.remove()
    assert {path.name for path in leftovers()} == {"box"}
    assert not [path for path in leftovers() if (path / "limited").exists()]


def test_without_privilege_there_is_no_cgroup_and_limits_are_an_error() -> None:
    script = (
        "import os, fastdock._errors\nfrom fastdock._core import Cgroup, Limits\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"cgroup = Cgroup.create('{TOP}/x')\n"
        "assert cgroup.is_nowhere and cgroup.directories() == {} and cgroup.processes() == []\n"
        "assert cgroup.join_descriptors() == (-1, -1, []) and cgroup.usage()['cpu_ns'] == 0\n"
        "cgroup.kill(); cgroup.remove()\n"
        f"try: Cgroup.create('{TOP}/x', Limits(memory=1 << 30))\n"
        "except PermissionError as error: assert 'root' in error.hint\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_many_threads_create_and_remove_at_once() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                name = f"{TOP}/many/{number}-{turn}"
                cgroup = Cgroup.create(name, Limits(pids=5))
                with pytest.raises(OSError, match="cpuset"):
                    Cgroup.create(f"{TOP}/deep/{number % 2}/bad-{number}", Limits(cpuset_cpus="4000"))
                cgroup.remove()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mount in MOUNTS:
        for name in ("many", "deep/0", "deep/1", "deep"):
            if (mount / TOP / name).exists():
                (mount / TOP / name).rmdir()
    assert failures == []


def test_no_descriptor_is_left_open(boxes: Any) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    box = Box("fds", memory=64 * MIB, cpuset_cpus="0")
    box.run("true")
    box.cgroup.statistics()
    box.cgroup.update(Limits(pids=9))
    box.cgroup.freeze()
    box.end()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
