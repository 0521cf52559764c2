"""fastdock-oci: a config.json that is malformed, contradictory or strange is refused, and leaves nothing behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import USER_NAMESPACE, Bundle

pytestmark = pytest.mark.kernel


def set_at(path: str, value: Any) -> Any:
    """A change of one member of config.json."""

    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            config = config.setdefault(name, {})
        config[last] = value

    return change


BAD = [
    ("process.args", []),
    ("process.args", "sh"),
    ("process.args", [1]),
    ("process.cwd", "relative"),
    ("process.user", {"uid": -1, "gid": 0}),
    ("process.user", {"uid": 4294967295, "gid": 0}),
    ("process.user", {"uid": 4294967296, "gid": 0}),
    ("process.user", {"uid": 0, "gid": 0, "additionalGids": [4294967295]}),
    ("process.user", {"uid": 1.5, "gid": 0}),
    ("process.rlimits", [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]),
    ("process.oomScoreAdj", 2000),
    ("process.scheduler", {"policy": "SCHED_MAGIC"}),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}),
    ("process.execCPUAffinity", {"initial": "3-1"}),
    ("linux.namespaces", [{"type": "pid"}]),
    ("linux.namespaces", [{"type": "mount"}, {"type": "mount"}]),
    ("linux.namespaces", [{"type": "mount"}, {"type": "magic"}]),
    ("linux.uidMappings", USER_NAMESPACE),
    ("linux.timeOffsets", {"boottime": {"secs": 1}}),
    ("linux.sysctl", {"kernel.panic": "1"}),
    ("linux.sysctl", {"net..x": "1"}),
    ("linux.cgroupsPath", "/a/../../b"),
    ("linux.rootfsPropagation", "sideways"),
    ("linux.personality", {"domain": "MINIX"}),
    ("linux.memoryPolicy", {"mode": "MPOL_MAGIC", "nodes": "0"}),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_MAGIC"]}),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "zero"}),
    ("linux.memoryPolicy", {"nodes": "0"}),
    ("linux.memoryPolicy", {}),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_MAGIC"}),
    (
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]},
    ),
    ("linux.intelRdt", {"closID": "x"}),
    ("linux.devices", [{"path": "x", "type": "c", "major": 1, "minor": 1}]),
    ("linux.resources", {"devices": [{"allow": True, "type": "q"}]}),
    ("linux.resources", {"unified": {"../x": "1"}}),
    ("root", {"path": "missing"}),
    ("root", None),
    ("ociVersion", "2.0.0"),
    ("ociVersion", 1),
    ("mounts", [{"destination": "/x", "type": "nosuchfs"}]),
    ("mounts", [{"destination": "/x", "type": "bind", "source": "/no/such"}]),
    ("mounts", [{"destination": "/x", "type": "tmpfs", "options": ["nosuchoption"]}]),
    ("mounts", {"destination": "/x"}),
    ("hooks", {"prestart": [{"path": "relative"}]}),
    ("hostname", 5),
    ("annotations", {"a": 1}),
    ("process.env", ["A=b\0c"]),
]


@pytest.mark.here
@pytest.mark.parametrize(
    ("path", "value"), BAD, ids=[f"{path}-{number}" for number, (path, _) in enumerate(BAD)]
)
def test_contradictions_and_nonsense(bundle: Bundle, path: str, value: Any) -> None:
    """A clear error, exit code 1, and nothing left behind."""
    error = bundle.refused(set_at(path, value))
    assert error.startswith("fastdock-oci: ")
    assert len(error) > 30


@pytest.mark.here
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"ociVersion": "1.0.2"}', "[" * 100000, '{"a":' * 200, "\0", "ÿ"]
)
def test_files_that_are_no_config(bundle: Bundle, text: str) -> None:
    bundle.path.joinpath("config.json").write_text(text)
    done = bundle.command("run", "--bundle", str(bundle.path), "c")
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert not (bundle.root / "c").exists()


@pytest.mark.here
def test_every_truncation_is_refused(bundle: Bundle) -> None:
    bundle.write()
    text = bundle.path.joinpath("config.json").read_text()
    for length in range(1, len(text) - 1, len(text) // 25):
        bundle.path.joinpath("config.json").write_text(text[:length])
        assert bundle.command("run", "--bundle", str(bundle.path), "c").returncode == 1
    assert not (bundle.root / "c").exists()


@pytest.mark.here
def test_strange_files_for_a_config(bundle: Bundle) -> None:
    """A FIFO, a directory, an endless device, 20 MB of spaces: no hanging, no endless memory."""
    file = bundle.path / "config.json"
    for make in (
        lambda: os.mkfifo(file),
        file.mkdir,
        lambda: file.symlink_to("/dev/zero"),
        lambda: file.write_text(" " * 20_000_000),
    ):
        make()
        done = bundle.command("run", "--bundle", str(bundle.path), "c")
        assert done.returncode == 1
        file.rmdir() if stat.S_ISDIR(file.lstat().st_mode) else file.unlink()


@pytest.mark.here
def test_without_room_for_a_thread_it_is_an_error(bundle: Bundle) -> None:
    """The thread that makes the network namespace beforehand cannot be there, and nor can the container."""
    parent = next(place for place in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(place))
    group = Path(parent, f"fastdock-oci-test-{os.getpid()}-narrow")
    group.mkdir()
    try:
        (group / "pids.max").write_text("1")
        done = bundle.run(preexec_fn=lambda: (group / "cgroup.procs").write_text("0"))
    finally:
        group.rmdir()
    assert done.returncode == 1
    assert "Resource temporarily unavailable" in done.stderr
    assert bundle.command("list", "--quiet").stdout == ""
