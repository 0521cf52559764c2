"""How many system calls one start makes: a figure that does not depend on the machine's speed or load.

``strace`` follows a process that starts containers; what is between two marks of its is one start.
"""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["TraceFailed", "count_between_marks", "count_launch"]

# Waits come or not, as the scheduler likes; memory calls are the Python allocator's, clocks the measuring program's.
_NOT_COUNTED = frozenset(
    {
        "futex",
        "restart_syscall",
        "sched_yield",
        "poll",
        "epoll_wait",
        "clock_nanosleep",
        "rt_sigreturn",
        "exit",
    }
    | {"exit_group", "brk", "mmap", "munmap", "madvise", "mprotect", "clock_gettime", "gettimeofday"}
)
_MARK = "/fastdock-bench-mark"
_LINE = re.compile(r"^(?:\[pid\s+)?(\d+)\]?\s+(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed>)(.*)$")


class TraceFailed(Exception):
    """strace is missing or may not trace, or the traced program failed."""


def count_between_marks(lines: Iterable[str], marks: tuple[int, int] = (1, 2)) -> dict[str, int]:
    """System calls by name in the output of ``strace -f`` between the n-th and the m-th mark.

    A process's calls no longer count after its successful execve: they are the container's own.
    """
    counts: collections.Counter[str] = collections.Counter()
    seen, gone = 0, set[str]()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        pid, name, rest = match.groups()
        resumed = " resumed>" in line[: match.end(2) + 10]
        if _MARK in rest and not resumed:
            seen += 1
            continue
        if not marks[0] <= seen < marks[1]:
            continue
        if name in ("execve", "execveat") and rest.rstrip().endswith("= 0"):
            if not resumed and pid not in gone:
                counts[name] += 1
            gone.add(pid)
        elif pid not in gone and not resumed and name not in _NOT_COUNTED:
            counts[name] += 1
    return dict(sorted(counts.items()))


_PROGRAM = """
import os, sys
from fastdock import Engine
engine = Engine(root=sys.argv[1])
options = dict(memory="256m", pids=100, cpus=1, storage="memory", pull="never")
def start():
    assert engine.run("fdbench/busybox", ["/bin/true"], **options).returncode == 0
for _ in range(3):
    start()
for _ in range(6):
    os.path.exists("{mark}")
    start()
os.path.exists("{mark}")
"""


def count_launch(root: Path) -> dict[str, int]:
    """System calls by name of one warm ``fastdock.run`` of /bin/true; ``root`` is an engine that has fdbench/busybox.

    Of six starts, the smallest count of each call: what belongs to a start is in every one.  Raises TraceFailed.
    """
    with tempfile.NamedTemporaryFile(mode="r", suffix=".strace") as trace:
        command = [
            "strace",
            "-f",
            "-qq",
            "-o",
            trace.name,
            sys.executable,
            "-c",
            _PROGRAM.format(mark=_MARK),
            str(root),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
        except FileNotFoundError as error:
            raise TraceFailed("strace is not installed: apt-get install strace") from error
        if done.returncode:
            raise TraceFailed(done.stderr.strip()[-500:])
        lines = trace.read().splitlines()
    counted = [count_between_marks(lines, (n, n + 1)) for n in range(1, 7)]
    names = set[str]().union(*counted)
    smallest = {name: min(one.get(name, 0) for one in counted) for name in names}
    return {name: count for name, count in sorted(smallest.items()) if count}
