"""fastdock-oci --systemd-cgroup, with a real systemd and beside runc."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from booted_systemd import Systemd, booted_systemd
from oci_bundle import Bundle

pytestmark = pytest.mark.kernel
SHOWN = [
    "Slice",
    "ControlGroup",
    "Delegate",
    "MemoryLimit",
    "MemoryMax",
    "TasksMax",
    "CPUShares",
    "CPUWeight",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "DevicePolicy",
    "ActiveState",
    "MemoryAccounting",
    "AllowedCPUs",
]


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    with booted_systemd() as booted:
        yield booted


class Scope:
    """A container of one runtime in the systemd's namespaces."""

    def __init__(self, systemd: Systemd, directory: Path, runtime: str, name: str) -> None:
        self.systemd, self.runtime, self.name = systemd, runtime, name
        self.bundle = Bundle(directory, runtime)
        self.bundle.shell("sleep 1000")
        self.bundle.config["linux"]["cgroupsPath"] = f"one-two.slice:pre:{name}"
        self.unit, self.path = f"pre-{name}.scope", f"/one.slice/one-two.slice/pre-{name}.scope"
        self.output = directory / "output"

    def command(self, *words: str) -> tuple[int, str]:
        """Exit code and what was printed, to a file: the container keeps it open."""
        with self.output.open("w") as file:
            words = (self.runtime, "--root", str(self.bundle.root), "--systemd-cgroup", *words)
            done = self.systemd.run(*words, stdout=file, stderr=file)
        return done.returncode, self.output.read_text()

    def create(self) -> tuple[int, str]:
        self.bundle.write()
        return self.command("create", "--bundle", str(self.bundle.path), self.name)


def shown(scope: Scope) -> dict[str, str]:
    properties = scope.systemd.show(scope.unit, *SHOWN)
    properties["ControlGroup"] = properties["ControlGroup"].replace(scope.name, "NAME")
    # On v2, runc before 1.4 (Debian 12's) maps shares to weights by another curve: looked at by itself.
    del properties["CPUWeight"]
    return properties


def test_a_scope_like_runcs(systemd: Systemd, tmp_path: Path) -> None:
    """create, start, exec, update, kill and delete; systemd knows the same of it as of runc's."""
    seen: dict[str, list[dict[str, str]]] = {}
    runc = shutil.which("runc")
    assert runc
    for name in ("fastdock", "runc"):
        (tmp_path / name).mkdir()
        runtime = runc if name == "runc" else Bundle(tmp_path / name / "x").runtime
        scope = Scope(systemd, tmp_path / name, runtime, name)
        scope.bundle.config["linux"]["resources"] = {
            "memory": {"limit": 64 << 20},
            "pids": {"limit": 20},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        }
        status, said = scope.create()
        assert status == 0, said  # runc warns of devices that the machine has not
        assert scope.command("start", name) == (0, "")
        seen[name] = [shown(scope)]
        assert scope.systemd.cgroup_file(scope.path, "pids/pids.max", "pids.max") == "20"
        assert len(systemd.cgroup_file(scope.path, "pids/cgroup.procs", "cgroup.procs").split()) == 1
        code, text = scope.command("exec", name, "cat", "/proc/self/cgroup")
        assert code == 0
        assert {line.split(":")[2] for line in text.splitlines() if ":memory:" in line or "0::" in line} == {
            "/"
        }
        assert scope.command("update", "--memory", "33554432", "--pids-limit", "30", name) == (0, "")
        seen[name].append(shown(scope))
        limit = systemd.cgroup_file(scope.path, "memory/memory.limit_in_bytes", "memory.max")
        assert limit == str(32 << 20)
        assert systemd.run("systemctl", "daemon-reload").returncode == 0
        assert systemd.cgroup_file(scope.path, "pids/pids.max", "pids.max") == "30"
        weight = systemd.cgroup_file(scope.path, "cpu/cpu.shares", "cpu.weight")
        assert weight == ("512" if systemd.hierarchies else "59") or name == "runc"
        assert scope.command("delete", "--force", name)[0] == 0
        assert systemd.show(scope.unit, "LoadState") == {"LoadState": "not-found"}
        assert systemd.directories(scope.unit) == []
    assert seen["fastdock"] == seen["runc"]


def test_one_process_is_enough(systemd: Systemd, tmp_path: Path) -> None:
    """The process that holds the scope open takes no place of the container's."""
    scope = Scope(systemd, tmp_path, Bundle(tmp_path / "x").runtime, "alone")
    scope.bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    scope.bundle.config["linux"]["resources"] = {"pids": {"limit": 1}}
    assert scope.create() == (0, "")
    assert scope.command("start", "alone") == (0, "")
    assert systemd.cgroup_file(scope.path, "pids/pids.max", "pids.max") == "1"
    assert scope.command("delete", "--force", "alone")[0] == 0


def test_annotations(systemd: Systemd, tmp_path: Path) -> None:
    scope = Scope(systemd, tmp_path, Bundle(tmp_path / "x").runtime, "noted")
    prefix = "org.systemd.property."
    scope.bundle.config["annotations"] = {
        prefix + "TimeoutStopSec": "uint64 7",
        prefix + "CollectMode": "'inactive-or-failed'",
        prefix + "SendSIGHUP": "true",
        prefix + "Slice": "'user.slice'",
    }
    assert scope.create() == (0, "")
    assert systemd.show(scope.unit, "TimeoutStopUSec", "CollectMode", "SendSIGHUP", "Slice") == {
        "TimeoutStopUSec": "7s",
        "CollectMode": "inactive-or-failed",
        "SendSIGHUP": "yes",
        "Slice": "one-two.slice",
    }
    assert scope.command("delete", "--force", "noted")[0] == 0


def refuse(scope: Scope, **change: Any) -> str:
    scope.bundle.config["linux"] |= change
    code, text = scope.create()
    assert code == 1
    assert not (scope.bundle.root / scope.name).exists()
    return text


def test_refusals_leave_nothing(systemd: Systemd, tmp_path: Path) -> None:
    """Also where the unit is somebody else's: that goes on."""
    scope = Scope(systemd, tmp_path, Bundle(tmp_path / "x").runtime, "bad")
    for path in (
        "/plain",
        "a:b",
        "a:b:c:d",
        "a--b.slice:p:n",
        "../x.slice:p:n",
        "a.slice:p:../n",
        "a.slice:p:n.slice",
    ):
        assert "cgroupsPath" in (text := refuse(scope, cgroupsPath=path)) or "not a name" in text
    scope.bundle.config["annotations"] = {"org.systemd.property.NoSuchThing": "true"}
    assert "NoSuchThing" in refuse(scope, cgroupsPath="a.slice:pre:bad")
    scope.bundle.config["annotations"] = {}
    scope.bundle.config["process"]["args"] = ["/no/such/program"]
    refuse(scope, cgroupsPath="a.slice:pre:bad")
    assert systemd.directories("pre-bad.scope") == []
    taken = Scope(systemd, tmp_path / "t", scope.runtime, "taken")
    assert taken.create() == (0, "")
    again = Scope(systemd, tmp_path / "u", scope.runtime, "taken")
    assert "taken.scope" in refuse(again)
    assert taken.command("start", "taken") == (0, "")
    assert taken.command("delete", "--force", "taken")[0] == 0


def test_without_systemd(tmp_path: Path) -> None:
    """Refused, with the reason."""
    bundle = Bundle(tmp_path)
    bundle.config["linux"]["cgroupsPath"] = "a.slice:p:n"
    bundle.write()
    done = bundle.command("--systemd-cgroup", "run", "--bundle", str(bundle.path), "c")
    assert done.returncode == 1
    assert "systemd" in done.stderr
    assert not (bundle.root / "c").exists()
