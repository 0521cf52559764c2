"""fastdock-oci --systemd-cgroup for an ordinary user: scopes of the user's own systemd."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted_systemd import Systemd, booted_systemd
from oci_bundle import Bundle, program

pytestmark = pytest.mark.kernel
USER = 1  # daemon, whom every Debian has
RUNTIME = f"/run/user/{USER}"
MANAGER = f"/user.slice/user-{USER}.slice/user@{USER}.service"
# Where a user's command runs: among processes of the machine's systemd, as in a session of logind, or in a scope of
# the user's own.  From the first nobody but the machine's systemd can move it into the container's scope.
PLACES = {"session": [], "own": ["systemd-run", "--user", "--scope", "--quiet"]}


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    with booted_systemd() as booted:
        if not booted.hierarchies:
            started = booted.run("systemctl", "start", f"user@{USER}.service")
            assert started.returncode == 0, booted.run("systemctl", "status", f"user@{USER}.service").stdout
        yield booted


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory of the user's."""
    directory = Path(tempfile.mkdtemp(prefix="fd-scope-", dir="/var/tmp"))
    yield directory
    shutil.rmtree(directory)


class Scope:
    """A user's container, and the commands for it."""

    def __init__(self, systemd: Systemd, directory: Path, name: str, place: str = "session") -> None:
        self.systemd, self.directory, self.name, self.place = systemd, directory, name, place
        self.environment = [f"XDG_RUNTIME_DIR={RUNTIME}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={RUNTIME}/bus"]
        runtime = directory / "fastdock-oci"
        shutil.copy(program(), runtime)
        self.bundle = Bundle(directory, str(runtime))
        self.bundle.shell("sleep 1000")
        linux = self.bundle.config["linux"]
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
        linux["cgroupsPath"] = f":pre:{name}"
        self.unit, self.path = f"pre-{name}.scope", f"{MANAGER}/user.slice/pre-{name}.scope"

    def as_user(self, *words: str, output: Path | None = None) -> tuple[int, str]:
        """Exit code and what was printed, to a file: the container keeps it open."""
        output = output or self.directory / "output"
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", *self.environment]
        with output.open("w") as file:
            done = self.systemd.run(*user, *PLACES[self.place], *words, stdout=file, stderr=file)
        return done.returncode, output.read_text()

    def command(self, *words: str) -> tuple[int, str]:
        return self.as_user(self.bundle.runtime, "--root", str(self.bundle.root), *words)

    def write(self) -> None:
        self.bundle.write()
        for path in [self.directory, *self.directory.rglob("*")]:
            os.chown(path, USER, USER, follow_symlinks=False)

    def create(self) -> tuple[int, str]:
        self.write()
        return self.command("--systemd-cgroup", "create", "--bundle", str(self.bundle.path), self.name)

    def show(self, *names: str) -> dict[str, str]:
        words = [f"--property={name}" for name in names]
        code, text = self.as_user("systemctl", "--user", "show", *words, self.unit)
        assert code == 0, text
        return dict(line.split("=", 1) for line in text.splitlines())

    def file(self, name: str) -> str:
        return self.systemd.cgroup_file(self.path, f"pids/{name}", name)


@pytest.mark.parametrize("place", PLACES)
def test_a_scope_of_the_users_systemd(systemd: Systemd, theirs: Path, place: str) -> None:
    scope = Scope(systemd, theirs, place, place)
    resources = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 512}}
    scope.bundle.config["linux"]["resources"] = resources
    if systemd.hierarchies:
        scope.place = "session"
        code, text = scope.create()
        assert code == 1
        assert "cgroup v2" in text
        assert not (scope.bundle.root / place).exists()
        return
    stopped = theirs / "stopped"
    scope.bundle.config["hooks"] = {"poststop": [{"path": "/bin/touch", "args": ["touch", str(stopped)]}]}
    assert scope.create() == (0, "")
    assert scope.command("start", place) == (0, "")
    shown = {"Slice": "user.slice", "ControlGroup": scope.path, "MemoryMax": str(64 << 20), "TasksMax": "20"}
    assert scope.show(*shown) == shown
    assert [scope.file(name) for name in ("memory.max", "pids.max")] == [str(64 << 20), "20"]
    assert len(scope.file("cgroup.procs").split()) == 1
    # exec is in it, too, and both see it as the top.
    code, text = scope.command("exec", place, "cat", "/proc/self/cgroup", "/proc/1/cgroup")
    assert (code, text) == (0, "0::/\n0::/\n")
    assert scope.command("exec", "--detach", place, "sleep", "1000") == (0, "")
    assert len(scope.file("cgroup.procs").split()) == 2
    code, text = scope.command("ps", place)
    assert text.count("sleep 1000") == 2
    assert scope.command("update", "--memory", "33554432", "--pids-limit", "30", place) == (0, "")
    assert scope.show("MemoryMax", "TasksMax") == {"MemoryMax": str(32 << 20), "TasksMax": "30"}
    assert scope.as_user("systemctl", "--user", "daemon-reload")[0] == 0
    assert [scope.file(name) for name in ("memory.max", "pids.max")] == [str(32 << 20), "30"]
    assert scope.command("pause", place) == (0, "")
    assert scope.file("cgroup.freeze") == "1"
    assert scope.command("resume", place) == (0, "")
    assert scope.command("delete", "--force", place) == (0, "")
    assert scope.show("LoadState") == {"LoadState": "not-found"}
    assert systemd.directories(scope.unit) == []
    assert stopped.stat().st_uid == USER


def test_for_root_of_a_users_namespace(systemd: Systemd, theirs: Path) -> None:
    """As rootless podman calls its runtime: in the user's namespace, where the container has none of its own."""
    scope = Scope(systemd, theirs, "below")
    linux = scope.bundle.config["linux"]
    linux["namespaces"].pop()
    del linux["uidMappings"], linux["gidMappings"]
    linux["resources"] = {"pids": {"limit": 20}, "devices": [{"allow": False, "access": "rwm"}]}
    scope.write()
    runtime = f"{scope.bundle.runtime} --root {scope.bundle.root}"
    script = f"""set -e
        {runtime} --systemd-cgroup create --bundle {scope.bundle.path} below
        {runtime} start below
        {runtime} exec below cat /proc/self/cgroup
        cat /sys/fs/cgroup{scope.path}/pids.max
        systemctl --user show --property=Slice {scope.unit}
        {runtime} delete --force below"""
    code, text = scope.as_user("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
    if systemd.hierarchies:
        assert (code, "cgroup v2" in text) == (1, True)
    else:
        assert (code, text) == (0, "0::/\n20\nSlice=user.slice\n")
    assert systemd.directories(scope.unit) == []
    assert not (scope.bundle.root / "below").exists()


def test_for_root_of_a_users_namespace_without_scopes(systemd: Systemd, theirs: Path) -> None:
    """As rootless podman with --cgroup-manager cgroupfs: a cgroup where systemd lets the user make some, and rules of
    devices, which it cannot have there."""
    scope = Scope(systemd, theirs, "plain", "session" if systemd.hierarchies else "own")
    linux = scope.bundle.config["linux"]
    linux["namespaces"].pop()
    for name in ("uidMappings", "gidMappings", "cgroupsPath"):
        del linux[name]
    linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    scope.bundle.shell("tail -n 1 /proc/self/cgroup")
    scope.write()
    run = [
        scope.bundle.runtime,
        "--root",
        str(scope.bundle.root),
        "run",
        "--bundle",
        str(scope.bundle.path),
        "plain",
    ]
    assert scope.as_user("unshare", "--user", "--map-root-user", "--mount", *run) == (0, "0::/\n")
    assert systemd.directories("plain") == []


def test_a_failure_leaves_no_scope(systemd: Systemd, theirs: Path) -> None:
    scope = Scope(systemd, theirs, "bad")
    scope.bundle.config["process"]["args"] = ["/no/such/program"]
    code, text = scope.create()
    assert code == 1
    assert not (scope.bundle.root / "bad").exists()
    assert systemd.directories(scope.unit) == []
    assert "/no/such/program" in text or systemd.hierarchies


def test_without_the_way_to_the_users_systemd(systemd: Systemd, theirs: Path) -> None:
    scope = Scope(systemd, theirs, "lost")
    scope.environment = []
    code, text = scope.create()
    assert code == 1
    assert "XDG_RUNTIME_DIR" in text or systemd.hierarchies
    assert not (scope.bundle.root / "lost").exists()


def test_without_a_cgroup_of_its_own_it_sees_its_callers(systemd: Systemd, theirs: Path) -> None:
    """As under rootless podman with --cgroup-manager cgroupfs: the limits that hold are where /proc/self/cgroup says,
    and of the host's other cgroups there is nothing to be seen."""
    scope = Scope(systemd, theirs, "none")
    config = scope.bundle.config
    config["linux"]["cgroupsPath"] = "/libpod_parent/libpod-none"
    options = ["ro", "nosuid", "noexec", "nodev", "relatime"]
    config["mounts"] += [
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
    ]
    config["mounts"][4] = {
        "destination": "/sys",
        "type": "none",
        "source": "/sys",
        "options": ["rbind", "ro"],
    }
    scope.bundle.shell("cat /proc/self/cgroup | tail -1; grep -x $$ /sys/fs/cgroup/cgroup.procs; ls -d /sys/fs/cgroup/*/;"
                       "mkdir /sys/fs/cgroup/x 2> /dev/null || echo refused")  # fmt: skip
    scope.write()
    code, text = scope.command("run", "--bundle", str(scope.bundle.path), "none")
    assert code == 0, text
    if not systemd.hierarchies:
        assert text == "0::/\n1\nls: /sys/fs/cgroup/*/: No such file or directory\nrefused\n"
