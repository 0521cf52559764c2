"""Every single system call of a launch fails in turn: each time one error that says so, and nothing left.

strace injects the error (strace(1), -e inject) into the N-th call of a name, in the parent and in the child.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import leaks
import pytest

import fastdock
from fastdock import _core
from fastdock.engine import base_of
from fastdock.options import options_from
from fastdock.planning import plan_of
from support import missing

pytestmark = [pytest.mark.kernel, pytest.mark.here, pytest.mark.timeout(900)]

MARKER = "getpgid(523532)"  # 0x7fd0c, of launch_once.cpp
# Memory that runs out is C++'s bad_alloc, not an error of a system call; close(2) closes whatever it answers,
# which an injected error would prevent; the rest cannot fail or does not return.
NOT_INJECTED = {"close", "brk", "mmap", "munmap", "mprotect", "futex", "exit", "exit_group", "rt_sigreturn", "getpgid", "execve"}
# Their failure is an answer ("there is no such hierarchy"), and the error is about what follows from it.
QUESTIONS = {"statfs", "faccessat2"}
LINE = re.compile(r"^(\d+) +([a-z_0-9]+)\(")


@pytest.fixture
def program() -> Path:
    build = Path(os.environ.get("FASTDOCK_BUILD", Path(__file__).parents[2] / "build/release"))
    path = build / "tests/payload/launch_once"
    if not path.exists() or shutil.which("strace") is None:
        missing(f"{path} or strace is missing (tools/test builds and installs them)")
    return path


class Launch:
    """One traced launch in directories of its own."""

    def __init__(self, program: Path, engine: fastdock.Engine, directory: Path) -> None:
        self.program, self.engine, self.directory = program, engine, directory
        planned = plan_of(base_of(engine.store.get("busybox")), options_from({}), seccomp_cache="")
        planned.plan.argv = ["/bin/true"]
        self.plan = directory / "plan"
        self.plan.write_bytes(planned.plan.to_bytes())

    def run(self, number: int, *strace: str) -> tuple[str, str, list[str]]:
        """Its output, strace's output, and what it left."""
        state, run, log = (self.directory / f"{kind}{number}" for kind in ("state", "run", "log"))
        state.mkdir()
        run.mkdir()
        parent = f"fastdock-faults-{os.getpid()}-{number}"
        command = ["strace", "-f", "-qq", "-o", str(log), *strace, str(self.program), str(self.plan), str(state)]
        done = subprocess.run([*command, str(run), parent], stdout=subprocess.PIPE, text=True, timeout=60)
        text = log.read_text(errors="replace")
        # Into the removal, or twice: what stays then is for who comes next.
        if "(INJECTED)" in text[text.find(MARKER) :] or text.count("(INJECTED)") > 1:
            _core.Session.remove_abandoned(str(state), str(run), parent)
        left = [str(path) for path in (*(state / "containers").glob("*"), *(run / "containers").glob("*"))]
        for group in (group for top in leaks.hierarchies() if (group := top / parent).is_dir()):
            left += [str(path) for path in group.glob("*/")]
            if not left:
                group.rmdir()
        return done.stdout, text, left


def calls_of(log: str) -> Iterator[tuple[str, int]]:
    """Each call of the launch, as (name, the how-many-eth of its process)."""
    counts: dict[str, Counter[str]] = {}
    first = log.split(maxsplit=1)[0]  # the process that only starts the one that launches
    for line in log[: log.index(MARKER)].splitlines():
        if (match := LINE.match(line)) and match[1] != first:
            process, name = match.groups()
            counts.setdefault(process, Counter())[name] += 1
            if name not in NOT_INJECTED:
                yield name, counts[process][name]


def test_every_call_of_a_launch_fails_once(
    engine: fastdock.Engine, program: Path, tmp_path: Path, session_root: Path
) -> None:
    launch = Launch(program, engine, tmp_path)
    output, log, left = launch.run(0)
    assert (output, left) == ("started\n", [])
    cases = list(dict.fromkeys(calls_of(log)))
    assert len(cases) > 100
    before = leaks.footprint(session_root)

    def inject(case: tuple[int, tuple[str, int]]) -> str | None:
        number, (name, nth) = case
        output, log, left = launch.run(number + 1, "-e", f"inject={name}:error=EIO:when={nth}")
        words = output.rstrip("\n").split("\t")
        if "(INJECTED)" not in log:
            return f"{name} #{nth}: was not reached"
        if left:
            return f"{name} #{nth}: left {left}"
        if words == ["started"]:
            return None  # a call whose failure does not matter
        if len(words) != 4 or not words[1] or words[1] == "do nothing":
            return f"{name} #{nth}: no clear error: {output!r}"
        if int(words[0]) != errno.EIO and name not in QUESTIONS:
            return f"{name} #{nth}: another error than the injected one: {output!r}"
        return None

    with ThreadPoolExecutor(2) as pool:
        problems = [problem for problem in pool.map(inject, enumerate(cases)) if problem]
    assert not problems, "\n".join(problems)
    assert leaks.footprint(session_root).leaked_since(before) == []
