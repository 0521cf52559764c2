"""What a container could leave behind, counted."""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from fastdock import _core
from fastdock.store.paths import run_directory


class Footprint(NamedTuple):
    """What there is of each kind at one moment."""

    children: frozenset[int]
    mounts: tuple[str, ...]
    cgroups: frozenset[str]
    devices: frozenset[str]
    descriptors: Counter[str]
    directories: frozenset[str]

    def leaked_since(self, before: Footprint) -> list[str]:
        """What is here now and was not before."""
        leaks = [f"process {pid}" for pid in self.children - before.children]
        leaks += [f"mount {line}" for line in set(self.mounts) - set(before.mounts)]
        leaks += [f"cgroup {path}" for path in self.cgroups - before.cgroups]
        leaks += [f"network device {name}" for name in self.devices - before.devices]
        leaks += [f"directory {path}" for path in self.directories - before.directories]
        leaks += [f"{count} descriptors of {target}" for target, count in (self.descriptors - before.descriptors).items()]
        return leaks


def footprint(root: Path) -> Footprint:
    """Now, for containers of the state directory ``root``."""
    gc.collect()
    _core.release_kept()  # what is kept for the next start is no leak
    return Footprint(
        children=_children(),
        mounts=_mounts(root),
        cgroups=_cgroups(root),
        devices=frozenset(name for name in os.listdir("/sys/class/net") if name.startswith("fd")),
        descriptors=_descriptors(),
        directories=frozenset(str(path) for path in (root / "containers").glob("*")),
    )


def _mounts(root: Path) -> tuple[str, ...]:
    """Those that have to do with this state directory; other engines mount, too."""
    places = (str(root), run_directory(str(root)))
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return tuple(line.split(" ", 4)[4] for line in lines if any(place in line for place in places))


def _cgroups(root: Path) -> frozenset[str]:
    """Those of this state directory's containers; other engines run at the same time."""
    name = os.path.basename(run_directory(str(root)))
    top = Path("/sys/fs/cgroup")
    places = [place / "fastdock" / name for place in (top, *top.iterdir())]
    return frozenset(str(path) for place in places if place.is_dir() for path in place.glob("*/"))


def hierarchies() -> list[Path]:
    """Where cgroup hierarchies are mounted: one on v2, one for each controller on v1."""
    top = Path("/sys/fs/cgroup")
    return [top] if (top / "cgroup.controllers").exists() else [path for path in top.iterdir() if path.is_dir()]


def _cgroups(root: Path) -> frozenset[str]:
    """Those of this state directory: other engines of the machine have theirs beside them (Engine.cgroup_parent)."""
    directories = cgroup_directories("fastdock/" + os.path.basename(run_directory(str(root))))
    return frozenset(str(path) for directory in directories for path in directory.iterdir() if path.is_dir())


def cgroup_directories(path: str) -> list[Path]:
    """A cgroup's directory in each hierarchy that has it (v1 has several, v2 one)."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    return [top / path for top in tops if (top / path / "cgroup.procs").exists()]


def _children() -> frozenset[int]:
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return frozenset(pids)


# One for the life of the process: the init's program; of the engine: an image's lease; and SQLite's
# descriptors, which it closes late
# because closing one drops all POSIX locks of the file (sqlite.org, os_unix.c, "setPendingFd").
_KEPT = (
    "/memfd:fastdock-init",
    "/memfd:fastdock-helper",
    "/memfd:fastdock-monitor",
    "fastdock.db",
    "/locks/lease-",
    "/proc/",
)


def _descriptors() -> Counter[str]:
    targets: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if not any(kept in target for kept in _KEPT):
            targets[re.sub(r"\d{4,}", "*", target)] += 1
    return targets
