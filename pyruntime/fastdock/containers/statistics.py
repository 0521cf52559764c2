"""What a running container uses, and its processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastdock import _core
from fastdock._errors import ContainerNotRunning, SpecError

if TYPE_CHECKING:
    from fastdock.containers.container import Container


def cgroup_of(container: Container) -> _core.Cgroup:
    """ContainerNotRunning when it has none."""
    engine = container._containers.engine
    try:
        return _core.Cgroup.open(f"{engine.cgroup_parent}/{container.id}")
    except FileNotFoundError:
        raise ContainerNotRunning(f"container {container.name} is not running") from None


def statistics(container: Container) -> Mapping[str, Any]:
    """:meth:`Container.stats`."""
    container._need_running()
    return dict(cgroup_of(container).statistics())


def top(container: Container, options: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """:meth:`Container.top`: the host's ps(1), of which only the container's processes are kept, as Docker does."""
    container._need_running()
    pids = {str(pid) for pid in cgroup_of(container).processes()} or _in_namespace_of(container)
    command = ["ps", *(options or ["-ef"])]
    # moby, daemon/top_unix.go: some options cannot be used together with -q
    done = subprocess.run([*command, "-q", ",".join(pids)], capture_output=True, text=True, check=False)
    if done.returncode:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SpecError(f"ps: {done.stderr.strip()}")
    heading, *lines = done.stdout.splitlines()
    headings = heading.split()
    if "PID" not in headings:
        raise SpecError("ps printed no PID column", hint="choose columns that have it")
    column = headings.index("PID")
    rows = [line.split(None, len(headings) - 1) for line in lines]
    rows = [row for row in rows if len(row) > column and row[column] in pids]
    users = [number for number, name in enumerate(headings) if name in ("UID", "USER")]
    for row in rows if users and container.first_id else ():
        name = _user_inside(container, row[column])
        for number in users if name else ():
            row[number] = name
    return headings, rows


def _in_namespace_of(container: Container) -> set[str]:
    """Without a cgroup (rootless): the processes that have the PID namespace of the container's first one."""

    def namespace(pid: str) -> int:
        try:
            return os.stat(f"/proc/{pid}/ns/pid").st_ino
        except OSError:
            return 0

    wanted = namespace(str(container.state.pid))
    return {pid for pid in os.listdir("/proc") if pid.isdecimal() and wanted and namespace(pid) == wanted}


def _user_inside(container: Container, pid: str) -> str:
    """A process's user as the container knows it: ps(1) has only the host's number of it, cut short."""
    try:
        user = os.stat(f"/proc/{pid}").st_uid - container.first_id
    except FileNotFoundError:
        return ""
    return "root" if user == 0 else str(user) if 0 < user < 65536 else ""


class Sample:
    """Two looks at a container, for what ``docker stats`` shows: shares of time in percent."""

    def __init__(self, before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> None:
        self.cpu = 100.0 * (after["cpu_ns"] - before["cpu_ns"]) / 1e9 / seconds if seconds > 0 else 0.0
        # Docker leaves the part of the page cache out that the kernel gives back first.
        self.memory = max(0, after["memory_current"] - after["memory_inactive_file"])
        self.memory_limit = after["memory_limit"] or _total_memory()
        self.pids = after["pids_current"]
        self.read = sum(device["read_bytes"] for device in after["io"])
        self.written = sum(device["write_bytes"] for device in after["io"])


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
