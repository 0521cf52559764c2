"""An ordinary user to whom cgroups are delegated has limits; on v1 and, in the VM, on v2 and Linux 6.1."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import leaks
import pytest
from ordinary_user import OrdinaryUser

pytestmark = pytest.mark.kernel


class Delegated:
    """What ``systemd-run --user --scope -p Delegate=yes`` gives: a cgroup of the user's, with us in a leaf of it."""

    def __init__(self, user: OrdinaryUser) -> None:
        self.user = user
        tops = [top for top in leaks.hierarchies() if (top / "cgroup.procs").exists()]
        if len(tops) == 1:
            (tops[0] / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        self.places = [top / f"fdt-{user.name}" for top in tops]
        for place in self.places:
            (place / "shell").mkdir(parents=True)
            for path in (place, *place.iterdir(), place / "shell", *(place / "shell").iterdir()):
                os.chown(path, user.uid, user.gid)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, started in the leaf."""
        enter = "".join(f"echo $$ >{place}/shell/cgroup.procs; " for place in self.places)
        drop = f"exec setpriv --reuid {self.user.uid} --regid {self.user.gid} --clear-groups env -i"
        variables = " ".join(f"'{key}={value}'" for key, value in self.user.environment.items())
        return subprocess.run(
            ["sh", "-c", f'{enter}{drop} {variables} "$@"', "-", *self.user.command, *words],
            cwd=self.user.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self) -> None:
        deadline = time.monotonic() + 10
        for place in self.places:
            for directory, _, _ in os.walk(place, topdown=False):
                while True:
                    try:
                        Path(directory).rmdir()
                        break
                    except OSError as error:  # what was killed is still on its way out
                        if error.errno != errno.EBUSY or time.monotonic() > deadline:
                            raise
                        time.sleep(0.01)


@pytest.fixture
def delegated(user: OrdinaryUser) -> Iterator[Delegated]:
    made = Delegated(user)
    yield made
    user.stop()  # the holder and its helpers were started in it
    made.remove()


def test_a_delegated_cgroup_gives_limits_pause_and_statistics(delegated: Delegated) -> None:
    delegated.user.stop()
    shown = delegated.ok("run", "--rm", "--network", "none", "--memory", "64m", "--pids-limit", "7", "busybox", "sh", "-c",
                         "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null;"
                         " cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true")  # fmt: skip
    assert shown.split() == [str(64 << 20), "7"]
    delegated.ok(
        "run", "-d", "--name", "box", "--network", "none", "--memory", "64m", "busybox", "sleep", "60"
    )
    delegated.ok("pause", "box")
    assert "paused" in delegated.ok("ps", "--format", "{{.Status}}").lower()
    delegated.ok("unpause", "box")
    assert "64MiB" in delegated.ok("stats", "--no-stream", "box")
    delegated.ok("update", "--memory", "32m", "--memory-swap", "64m", "box")
    delegated.ok("rm", "-f", "box")


def test_too_much_memory_is_the_containers_end(delegated: Delegated) -> None:
    delegated.user.stop()
    done = delegated.run("run", "--rm", "--network", "none", "--memory", "16m", "busybox", "sh", "-c",
                         "dd if=/dev/zero of=/dev/null bs=64M count=1")  # fmt: skip
    assert done.returncode == 137
