"""Cgroups with real processes, on whichever version this machine has."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdock._core import Cgroup, DeviceRule, Limits, cgroup_info
from fastdock._errors import KernelError

pytestmark = pytest.mark.kernel

MIB = 1 << 20
INFO = cgroup_info()
MOUNTS = [Path(hierarchy["mount_point"]) for hierarchy in INFO["hierarchies"]]
IS_V2 = INFO["version"] == 2
TOP = f"fastdock-test-{os.getpid()}"


def leftovers() -> list[Path]:
    return [path for mount in MOUNTS for path in mount.glob(f"{TOP}*/*/")]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    left = leftovers()
    for mount in MOUNTS:
        if (mount / TOP).exists():
            (mount / TOP).rmdir()
    assert left == []


class Box:
    """A cgroup and the processes that a test starts in it."""

    def __init__(self, name: str = "box", **arguments: Any) -> None:
        options = {key: arguments.pop(key) for key in ("unified", "all_controllers") if key in arguments}
        self.cgroup = Cgroup.create(f"{TOP}/{name}", Limits(**arguments), **options)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program in the cgroup, as a launch does: the child moves itself."""
        directory, procs, tasks = self.cgroup.join_descriptors()

        def enter() -> None:
            for descriptor in tasks if procs < 0 else [*tasks, procs]:
                os.write(descriptor, b"0")

        process = subprocess.Popen(argv, preexec_fn=enter, stdout=subprocess.PIPE, **options)
        self.started.append(process)
        for descriptor in [directory, procs, *tasks]:
            if descriptor >= 0:
                os.close(descriptor)
        return process

    def start_ready(self, script: str) -> subprocess.Popen[bytes]:
        """Starts a shell script and waits for its first line of output."""
        process = self.start("sh", "-c", script)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        return process

    def run(self, *argv: str, **options: Any) -> tuple[int, bytes]:
        process = self.start(*argv, **options)
        output = process.communicate()[0]
        return process.returncode, output

    def directory(self, controller: str) -> Path:
        directories = self.cgroup.directories()
        return Path(directories.get(controller) or directories[""])

    def end(self) -> None:
        self.cgroup.kill()
        for process in self.started:
            with process:  # closes its pipes, waits
                pass
        self.cgroup.remove()


@pytest.fixture
def boxes() -> Iterator[Any]:
    made: list[Box] = []

    def make(*names: str, **arguments: Any) -> Box:
        made.append(Box(*names, **arguments))
        return made[-1]

    yield make
    for box in made:
        box.end()


def allowed_cpus(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list"))


HOLD_20_MB = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; while read -r line; do :; done"


def hold_20_mb(box: Box) -> subprocess.Popen[bytes]:
    """A process that has 20 MB of memory in use that cannot be reclaimed."""
    process = box.start("sh", "-c", HOLD_20_MB, stdin=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


# ------------------------------------------------------------------ create, join, statistics


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


# ------------------------------------------------------------------ limits


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


# ------------------------------------------------------------------ freeze, kill, remove

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
    assert process.poll() is None
    assert box.cgroup.processes() == [process.pid]


def test_no_descriptor_is_left_open(boxes: Any) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    box = Box("fds", memory=64 * MIB, cpuset_cpus="0")
    box.run("true")
    box.cgroup.statistics()
    box.cgroup.update(Limits(pids=9))
    box.cgroup.freeze()
    box.end()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
