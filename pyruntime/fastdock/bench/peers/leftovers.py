"""What an engine leaves when its command is killed half-way: found by our own directory and our own cgroup names."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["cgroups_named", "end", "end_everything", "mounts_below", "processes_with", "unmount_below"]

_MNT_DETACH = 2
_LIMIT = 10.0  # seconds for a killed process to be gone
_libc = ctypes.CDLL(None, use_errno=True)


def _ancestors() -> set[int]:
    """Ourselves and everybody above: a shell or timeout(1) has our directory among its words, too."""
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def processes_with(words: str) -> list[int]:
    """The processes whose command line contains these words, without us and those above us."""
    found, needle, above = [], words.encode(), _ancestors()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in above:
            with contextlib.suppress(OSError):  # it has ended
                if needle in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _hierarchies() -> list[tuple[Path, Path]]:
    """Where each cgroup hierarchy is mounted, and our own cgroup in it."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, at, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append((Path(at), Path(at + own.get("", "/"))))
        elif kind == "cgroup":
            mounted = set(options.split(","))
            named = [path for controllers, path in own.items() if set(controllers.split(",")) <= mounted]
            found.append((Path(at), Path(at + (named[0] if named else "/"))))
    return found


def cgroups_named(word: str) -> list[Path]:
    """The cgroups with this word in their name, and all below them, deepest first.

    Looked for at each hierarchy's top and in our own cgroup: engines put a container's into one of these.
    """
    found: set[Path] = set()
    for places in _hierarchies():
        for place in places:
            for group in place.glob(f"*{word}*/") if place.is_dir() else []:
                found.add(group)
                found.update(path for path in group.rglob("*/"))
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _members(groups: Iterable[Path]) -> list[int]:
    found = set[int]()
    for group in groups:
        with contextlib.suppress(OSError):  # it has gone
            found.update(int(word) for word in (group / "cgroup.procs").read_text().split())
    return sorted(found - {0, os.getpid()})


def end(processes: Callable[[], list[int]]) -> None:
    """SIGKILL for those that ``processes`` finds, until it finds none: what ends may have been starting another one."""
    until = time.monotonic() + _LIMIT
    while (found := processes()) and time.monotonic() < until:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # there is no event for the end of somebody else's child that may be a zombie


def mounts_below(directory: Path) -> list[str]:
    """Mount points below a directory, the last mounted first."""
    prefix = f"{directory}/"
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [at for at in reversed([line.split()[1] for line in lines]) if at.startswith(prefix)]


def unmount_below(directory: Path) -> None:
    """Detaches every mount below a directory."""
    for at in mounts_below(directory):
        _libc.umount2(at.encode(), _MNT_DETACH)


def end_everything(directory: Path, mark: str) -> None:
    """Ends what has ``directory`` among its words or is in a cgroup named with ``mark``; then cgroups and mounts go.

    ``mark`` names one engine of one run: nobody else's containers are touched.
    """
    end(lambda: processes_with(f"{directory}/") + _members(cgroups_named(mark)))
    for group in cgroups_named(mark):
        with contextlib.suppress(OSError):
            group.rmdir()
    unmount_below(directory)
