"""Bundles for the OCI runtime's tests, and the runtime itself driven as its callers do it."""

from __future__ import annotations

import copy
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
APPLETS = [
    "sh",
    "cat",
    "chmod",
    "cut",
    "dd",
    "echo",
    "env",
    "false",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mknod",
    "mount",
    "ps",
    "pwd",
    "readlink",
    "sleep",
    "stat",
    "stty",
    "test",
    "touch",
    "true",
    "tty",
    "umount",
    "wc",
]
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]


USER_NAMESPACE = [{"containerID": 0, "hostID": 1879048192, "size": 65536}]


def program() -> str:
    """The runtime under test."""
    places = [os.environ.get("FASTDOCK_OCI", ""), str(Path(sys.executable).with_name("fastdock-oci"))]
    places.append(str(REPOSITORY / "build/release/csrc/oci/fastdock-oci"))
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    if os.environ.get("FASTDOCK_MUST_WORK"):
        pytest.fail("no fastdock-oci: build it or set FASTDOCK_OCI")
    pytest.skip("no fastdock-oci: build it or set FASTDOCK_OCI")


def default_config() -> dict[str, Any]:
    """What engines write for a plain container, without limits."""
    flags = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": flags},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*flags, "mode=1777"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*flags, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


def make_rootfs(directory: Path) -> None:
    """A root file system of this machine's static busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox (apt-get install busybox-static)")
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc", "home/app"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "tmp").chmod(0o1777)  # what a tmpfs over it takes on
    shutil.copy(busybox, directory / "bin/busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (directory / "etc/group").write_text("root:x:0:\napp:x:1000:\n")


class Bundle:
    """A bundle, a state directory of its own, and the runtime's commands on both."""

    def __init__(self, directory: Path, runtime: str | None = None) -> None:
        self.path = directory / "bundle"
        self.root = directory / "state"
        self.rootfs = self.path / "rootfs"
        self.runtime = runtime or program()
        self.config = default_config()
        self.cgroup = f"/fastdock-oci-test-{os.getpid()}-{directory.name[-20:]}"
        self.config["linux"]["cgroupsPath"] = self.cgroup
        make_rootfs(self.rootfs)

    def shell(self, script: str) -> None:
        """The container's program is this script."""
        self.config["process"]["args"] = ["/bin/sh", "-c", script]

    def write(self) -> None:
        """Writes config.json."""
        (self.path / "config.json").write_text(json.dumps(self.config))

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs the runtime, with its output captured."""
        options.setdefault("stdin", subprocess.DEVNULL)
        base = [self.runtime, "--root", str(self.root)]
        return subprocess.run([*base, *words], capture_output=True, text=True, timeout=120, **options)

    def run(self, name: str = "c", *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`run` in the foreground."""
        self.write()
        return self.command("run", "--bundle", str(self.path), *flags, name, **options)

    def output(self, script: str, name: str = "c") -> str:
        """What a script prints in a container; it must succeed."""
        self.shell(script)
        done = self.run(name)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def create(self, name: str = "c", *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`create`, with its output thrown away: the container's process keeps it open."""
        self.write()
        options.setdefault("stdout", subprocess.DEVNULL)
        return self._detached("create", name, flags, options)

    def run_detached(self, name: str = "c", *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`run --detach`."""
        self.write()
        options.setdefault("stdout", subprocess.DEVNULL)
        return self._detached("run", name, ("--detach", *flags), options)

    def _detached(
        self, verb: str, name: str, flags: tuple[str, ...], options: dict[str, Any]
    ) -> subprocess.CompletedProcess[str]:
        # Standard error goes to a file: a pipe would not end before the container does.
        log = self.path.parent / "stderr"
        with log.open("w") as stderr:
            command = [self.runtime, "--root", str(self.root), verb, "--bundle", str(self.path), *flags, name]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=stderr, timeout=120, **options)
        return subprocess.CompletedProcess(command, done.returncode, "", log.read_text())

    def state(self, name: str = "c") -> dict[str, Any]:
        """What `state` prints."""
        done = self.command("state", name)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def refused(self, change: Any = None) -> str:
        """The error of a `run` that must fail, with exit code 1, and leave nothing behind."""
        before = copy.deepcopy(self.config)
        if change is not None:
            change(self.config)
        done = self.run("refused")
        self.config = before
        assert done.returncode == 1, done
        assert not (self.root / "refused").exists()
        assert self.cgroups() == []
        return done.stderr

    def cgroups(self) -> list[str]:
        """The directories of the container's cgroup that exist."""
        top = Path("/sys/fs/cgroup")
        places = [directory / self.cgroup.lstrip("/") for directory in (top, *top.iterdir())]
        return [str(path) for path in places if path.is_dir()]

    def cgroup_file(self, v1: str, v2: str) -> str:
        """A limit, from where it is on this machine: ("memory/memory.limit_in_bytes", "memory.max")."""
        top = Path("/sys/fs/cgroup")
        on_v2 = (top / "cgroup.controllers").exists()
        file = (
            top / self.cgroup.lstrip("/") / v2
            if on_v2
            else top / v1.split("/")[0] / self.cgroup.lstrip("/") / v1.split("/")[1]
        )
        return file.read_text().strip()

    def close(self) -> None:
        """Removes what tests left."""
        for state in self.root.iterdir() if self.root.exists() else []:
            self.command("delete", "--force", state.name)
        assert self.cgroups() == [], self.cgroups()
        # Nothing of a container may stay mounted here.
        assert str(self.path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    """A bundle of the test's own; after the test nothing is left of its containers."""
    made = Bundle(tmp_path)
    yield made
    made.close()


def with_user_namespace(bundle: Bundle) -> None:
    """The container's ids become its own; the root file system belongs to them."""
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = USER_NAMESPACE
    for path in [bundle.rootfs, *bundle.rootfs.rglob("*")]:
        os.chown(path, USER_NAMESPACE[0]["hostID"], USER_NAMESPACE[0]["hostID"], follow_symlinks=False)
    # The way to the bundle must be open to them.
    for parent in bundle.rootfs.parents:
        if parent != Path("/tmp") and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o11)


def wait_for_end(pid: int) -> None:
    """Returns when a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor) as pidfd:
        assert select.select([pidfd], [], [], 60)[0]
