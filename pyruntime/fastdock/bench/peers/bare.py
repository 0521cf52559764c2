"""No isolation at all, and the least that isolation costs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running

__all__ = ["Bare", "Floor"]


class Bare(Peer):
    """fork (vfork, as posix_spawn does it) + exec + wait of the same program."""

    name = "fork+exec"
    kind = "process"
    isolation = "none"

    def open(self) -> str:
        return "posix_spawn"

    def prepare(self, workload: Workload) -> None:
        self._argv, self._expect = workload.outside(self.rootfs(workload)), workload.expect

    def run(self) -> float | None:
        return spawn(self._argv, expect=self._expect, env={"PATH": os.environ["PATH"] + ":" + str(Path(self._argv[0]).parent)})

    def start(self) -> Running:
        return _Process(subprocess.Popen(self._argv, stdout=subprocess.DEVNULL))


class _Process(Running):
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def own_pids(self) -> list[int]:
        return [self._process.pid]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Floor(Peer):
    """The floor program (bench/floor): the system calls of a full container and nothing around them.

    FASTDOCK_FLOOR names the program; otherwise it is looked for below build/.
    """

    name = "floor"
    isolation = "all namespaces, user ids, overlay, cgroups, seccomp: only the system calls"
    flags: tuple[str, ...] = ()

    def open(self) -> str:
        named = os.environ.get("FASTDOCK_FLOOR")
        candidates = [Path(named)] if named else sorted(Path.cwd().glob("build/**/fastdock_floor"))
        if not candidates or not candidates[0].exists():
            raise Missing("fastdock_floor is not built: cmake -B build/bench -DFASTDOCK_BENCH=ON -DFASTDOCK_PYTHON=OFF . "
                          "&& cmake --build build/bench")
        if os.geteuid() != 0:
            raise Missing("the floor program needs root")
        self._program = str(candidates[0].resolve())
        return "bench/floor"

    def prepare(self, workload: Workload) -> None:
        self._argv = [self._program, "--rootfs", str(self.rootfs(workload)), "--state", str(self.scratch / "state"),
                      "--iterations", "1", "--warmup", "1", *self.flags, "--", *workload.inside()]

    def run(self) -> float | None:
        done = subprocess.run(self._argv, capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            raise CommandFailed(done.stderr.strip() or f"status {done.returncode}")
        # One start for warmth, one for the figure: the program itself is not what is measured.
        steps = json.loads(done.stdout.splitlines()[-1])["steps_ns"]
        return float(steps["namespace_closed"][0]) / 1e9
