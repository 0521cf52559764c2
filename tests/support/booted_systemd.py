"""systemd booted as process 1 of namespaces of its own, from this machine's own package, for tests.

It has a cgroup of its own in every hierarchy, as the root of a cgroup namespace; a /run of its own; and of
units only a message bus, so that nothing of the machine is started or changed.  The package's units are out of
sight: a caller that asks the bus for logind would start them all, and one empties the machine's /tmp.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SYSTEMD = "/lib/systemd/systemd"
TOP = Path("/sys/fs/cgroup")
UNITS = {
    "test.target": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n"
    "Service=dbus.service\n",
    "dbus.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\n"
    "NotifyAccess=main\nExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile"
    " --systemd-activation --syslog-only\n",
    "-.slice": "[Slice]\nMemoryAccounting=yes\n",
    # As the package's, without PAM and logind; of the user's own units nothing but their bus.
    "user@.service": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\nAfter=dbus.socket\n"
    "[Service]\nUser=%i\nType=notify\nKillMode=mixed\nSlice=user-%i.slice\nDelegate=pids memory cpu\n"
    "Environment=XDG_RUNTIME_DIR=/run/user/%i HOME=/run/user/%i\nExecStartPre=+/bin/mkdir -p /run/user\n"
    "ExecStartPre=+/bin/install -d -m 700 -o %i /run/user/%i\nExecStart=/lib/systemd/systemd --user"
    " --unit=dbus.socket\n",
}
# Read by sh as process 1 of the namespaces, which systemd then becomes.  /proc/sys is read-only: systemd
# raises fs.file-max and the like, which have no namespace.  /run/proc is one without anything over it, which must be
# there where a user's container is to mount another (mount_namespaces(7)).  $2 are v1's hierarchies; none on v2.
BOOT = """
set -e
mount --make-rprivate /
mkdir -p "$1/cgroup"
[ -z "$2" ] || mount -t tmpfs -o mode=755 tmpfs "$1/cgroup"
for hierarchy in $2; do
  case $hierarchy in
    unified) continue ;;
    systemd) option=none,name=systemd ;;
    *) option=$hierarchy ;;
  esac
  mkdir -p "$1/cgroup/$hierarchy"
  mount -t cgroup -o "$option" cgroup "$1/cgroup/$hierarchy"
done
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
if [ -n "$2" ]; then
  mount --rbind "$1/cgroup" /sys/fs/cgroup
else
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/lock /run/dbus /run/proc
mount -t proc proc /run/proc
mount --bind "$1/units" /etc/systemd/system
mount -t tmpfs tmpfs /lib/systemd/system
mount -t tmpfs tmpfs /lib/systemd/system-generators
mount -t tmpfs tmpfs /dev/shm
[ ! -e /dev/console ] || mount --bind "$1/log" /dev/console
export container=fastdock-test
exec "$3" --unit=test.target --log-target=console --log-level=info --show-status=no
"""


class Systemd:
    """A running systemd; `run` runs commands beside it."""

    def __init__(self, pid: int, cgroup: str, hierarchies: list[str]) -> None:
        self.pid = pid
        self.hierarchies = hierarchies
        self._cgroup = cgroup

    def places(self) -> list[Path]:
        """Its top cgroup's directories, as the machine sees them."""
        return [TOP / name / self._cgroup for name in self.hierarchies] or [TOP / self._cgroup]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command in its namespaces, with the output captured unless told otherwise."""
        options = {"stdin": subprocess.DEVNULL, "text": True, "timeout": 120} | options
        if "stdout" not in options:
            options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # In a cgroup below its top one, as everything that runs under a systemd.
        script = 'for file; do [ "$file" = -- ] && break; echo $$ > "$file"; shift; done; shift; exec "$@"'
        files = [str(place / "init.scope/cgroup.procs") for place in self.places()]
        files = [file for file in files if os.path.exists(file)]
        enter = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--pid",
            "--cgroup",
            "--net",
            "--ipc",
            "--uts",
        ]
        return subprocess.run(["sh", "-c", script, "sh", *files, "--", *enter, "--wdns=/", *words], **options)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """`systemctl show`."""
        names = [f"--property={name}" for name in properties]
        done = self.run("systemctl", "show", *names, unit)
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def cgroup_file(self, path: str, v1: str, v2: str) -> str:
        """A cgroup's limit: ("memory/memory.limit_in_bytes", "memory.max")."""
        if not self.hierarchies:
            return (TOP / self._cgroup / path.lstrip("/") / v2).read_text().strip()
        hierarchy, file = v1.split("/")
        return (TOP / hierarchy / self._cgroup / path.lstrip("/") / file).read_text().strip()

    def directories(self, name: str) -> list[str]:
        """Where below it there are cgroups of this name."""
        return [str(path) for place in self.places() for path in place.rglob(name)]


def _remove(directory: Path) -> None:
    for _ in range(100):
        for path in sorted(directory.rglob("*"), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
        with contextlib.suppress(OSError):
            directory.rmdir()
        if not directory.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{directory} is still in use")


@contextlib.contextmanager
def booted_systemd() -> Iterator[Systemd]:
    """A systemd, until the end of the block."""
    missing = [path for path in (SYSTEMD, "/usr/bin/dbus-daemon") if not os.access(path, os.X_OK)]
    if missing:
        reason = f"no {missing[0]} (apt-get install systemd dbus)"
        pytest.fail(reason) if os.environ.get("FASTDOCK_MUST_WORK") else pytest.skip(reason)
    v2 = (TOP / "cgroup.controllers").exists()
    hierarchies = [] if v2 else sorted(path.name for path in TOP.iterdir() if path.name != "unified")
    systemd = Systemd(0, f"fastdock-systemd-test-{os.getpid()}", hierarchies)
    directory = Path(tempfile.mkdtemp(prefix="fastdock-systemd-"))
    (directory / "units").mkdir()
    for name, text in UNITS.items():
        (directory / "units" / name).write_text(text)
    for place in systemd.places():
        place.mkdir()
        if place.parent.name == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (place / file).write_text((place.parent / file).read_text())
    # The shell enters the cgroups first: they become the roots of the namespace that unshare makes.
    enter = " && ".join(f"echo $$ > {place}/cgroup.procs" for place in systemd.places())
    flags = "--mount --pid --fork --kill-child --cgroup --uts --ipc --net"
    command = [
        "sh", "-c", f'{enter} && exec unshare {flags} sh -c "$0" sh "$@"', BOOT,
        str(directory), " ".join(hierarchies), SYSTEMD,
    ]  # fmt: skip
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        ready = False
        while not ready:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if children:
                systemd.pid = int(children[0])
                if v2:  # unshare itself: a cgroup that holds processes offers no controllers (cgroup-v2.rst)
                    (TOP / "cgroup.procs").write_text(str(process.pid))
                ready = os.path.exists(f"/proc/{systemd.pid}/root/run/dbus/system_bus_socket")
        while systemd.run("systemctl", "is-active", "test.target").stdout.strip() != "active":
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield systemd
    except BaseException:
        sys.stderr.write(log.read_text()[-4000:])
        raise
    finally:
        process.kill()
        process.wait()
        for place in systemd.places():
            _remove(place)
        shutil.rmtree(directory)
