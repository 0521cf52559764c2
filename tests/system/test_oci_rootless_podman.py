"""An ordinary user's Podman, as Debian packages it, calling fastdock-oci: with scopes of the user's own systemd, and
without."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted_systemd import Systemd, booted_systemd
from oci_bundle import make_rootfs, program

from tests.system.daemons import need, sh
from tests.system.test_oci_callers import disk

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
# The machine's limits are left alone, and its /proc/sys is read-only beside that systemd.
CONFIGURATION = """[containers]
default_ulimits = ["nofile=512:512", "nproc=512:512"]
default_sysctls = []
"""


class Podman:
    """The commands of one user, who has a session."""

    def __init__(self, systemd: Systemd, place: Path, uid: int) -> None:
        self.systemd, self.place, self.uid = systemd, place, uid
        self.v2 = not systemd.hierarchies
        self.runtime = place / "fastdock-oci"
        shutil.copy(program(), self.runtime)
        (place / "containers.conf").write_text(CONFIGURATION)
        runtime_directory = f"/run/user/{uid}"
        if self.v2:
            started = systemd.run("systemctl", "start", f"user@{uid}.service")
        else:  # systemd --user cannot have v1's cgroups there
            started = systemd.run(
                "install", "-D", "--directory", f"--owner={uid}", "--mode=700", runtime_directory
            )
        assert started.returncode == 0, started.stderr
        self.environment = [
            f"HOME={place}/home", "PATH=/usr/bin:/bin:/usr/sbin", f"CONTAINERS_CONF={place}/containers.conf",
            "STORAGE_DRIVER=vfs", "PODMAN_IGNORE_CGROUPSV1_WARNING=1", f"XDG_RUNTIME_DIR={runtime_directory}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime_directory}/bus",
        ]  # fmt: skip
        self.manager = "systemd"

    @property
    def base(self) -> list[str]:
        flags = ["--runtime", str(self.runtime), "--cgroup-manager", self.manager, "--events-backend", "file"]
        return ["podman", "--log-level=error", *flags]

    def as_user(self, *words: str, status: int = 0) -> str:
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "env", "-i"]
        done = self.systemd.run(*user, *self.environment, *words)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return str(done.stdout)

    def __call__(self, *words: str, status: int = 0) -> str:
        return self.as_user(*self.base, *words, status=status)

    def on_terminal(self, *words: str) -> list[str]:
        text = self.as_user("script", "-qec", shlex.join([*self.base, *words]), "/dev/null")
        return text.replace("^@", "").split()  # the end of script's own input

    def cgroup_of(self, container: str) -> Path:
        (directory,) = self.systemd.directories(f"libpod-{container}.scope")
        return Path(directory)


@pytest.fixture(scope="module")
def session() -> Iterator[Podman]:
    need("podman", "conmon", "catatonit", "newuidmap", "script", "busybox")
    name = f"fdp{os.getpid() % 100000}"
    sh("useradd", "--create-home", name)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fdpod-", dir=disk()) as directory,
            booted_systemd() as systemd,
        ):
            place, account = Path(directory), pwd.getpwnam(name)
            place.chmod(0o755)
            make_rootfs(place / "rootfs")
            sh("tar", "-C", str(place / "rootfs"), "-cf", str(place / "rootfs.tar"), ".")
            (place / "home").mkdir()
            os.chown(place / "home", account.pw_uid, account.pw_gid)
            podman = Podman(systemd, place, account.pw_uid)
            podman("import", str(place / "rootfs.tar"), "localhost/busybox:latest")
            yield podman
    finally:
        subprocess.run(["userdel", "--remove", "--force", name], capture_output=True, check=True)


@pytest.fixture(params=["systemd", "cgroupfs"])
def podman(session: Podman, request: pytest.FixtureRequest) -> Podman:
    session.manager = request.param
    return session


def test_limits_of_a_users_container(podman: Podman) -> None:
    """Of cgroup v1 users have nothing."""
    limits = ["--memory", "64m", "--pids-limit", "20"] if podman.v2 else []
    show = "id -u; tail -n 1 /proc/self/cgroup; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"
    shown = podman(
        "run", "--rm", "--network", "none", *limits, "busybox", "sh", "-c", f"{show}; exit 3", status=3
    )
    assert shown.split() == (["0", "0::/", "67108864", "20"] if podman.v2 else ["0", shown.split()[1]])


def test_a_users_pod(session: Podman) -> None:
    """exec with a terminal, stats, update, kill, rm."""
    session.manager, podman = "systemd", session
    limits = ["--memory", "64m", "--pids-limit", "20"] if podman.v2 else []
    podman("pod", "create", "--name", "pod", "--network", "none")
    started = podman("run", "--detach", "--pod", "pod", "--name", "one", *limits, "busybox", "sleep", "1000")
    assert podman.on_terminal("exec", "-it", "one", "sh", "-c", "tty; id -u; hostname") == [
        "/dev/pts/0",
        "0",
        "pod",
    ]
    if podman.v2:
        cgroup = podman.cgroup_of(started.strip())
        assert podman("stats", "--no-stream", "--format", "{{.MemLimit}} {{.PIDS}}", "one") == "67108864 1\n"
        podman("update", "--memory", "32m", "one")
        assert [(cgroup / file).read_text() for file in ("memory.max", "pids.max")] == ["33554432\n", "20\n"]
    podman("kill", "one")
    podman("pod", "rm", "--force", "--time", "0", "pod")
    assert podman.systemd.directories(f"*{started.strip()}*") == []
