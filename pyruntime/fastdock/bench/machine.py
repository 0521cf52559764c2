"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

__all__ = ["describe", "drop_caches"]


def _field(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cgroups() -> str:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "v2"
    return "v1 (hybrid)" if Path("/sys/fs/cgroup/unified/cgroup.procs").exists() else "v1"


def _file_system(path: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, at, type_, *_ = line.split()
        inside = path == Path(at) or Path(at) in path.parents
        if inside and len(at) >= len(best):
            best, kind = at, type_
    return kind


def describe(state: Path) -> dict[str, str]:
    """The machine, and the file system that holds ``state``, in words for a report."""
    memory_kib = int(_field("/proc/meminfo", "MemTotal").split()[0])
    virtual = "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "no"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kib / 1024**2:.1f} GiB",
        "virtual machine": virtual,
        "kernel": platform.release(),
        "cgroups": _cgroups(),
        "system": next(
            (
                line.partition("=")[2].strip('"')
                for line in _file("/etc/os-release").splitlines()
                if line.startswith("PRETTY_NAME=")
            ),
            "unknown",
        ),
        "state on": _file_system(state.resolve()),
        "load": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "python": platform.python_version(),
    }


def drop_caches() -> None:
    """Drops the page cache, dentries and inodes, for a cold start.  Needs root: PermissionError without."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
