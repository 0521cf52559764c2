"""No isolation at all, and the least that isolation costs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running

__all__ = ["Bare", "Floor", "FloorDisk"]


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
        return spawn(
            self._argv,
            expect=self._expect,
            env={"PATH": os.environ["PATH"] + ":" + str(Path(self._argv[0]).parent)},
        )

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

    FASTDOCK_FLOOR names the program; otherwise that of a build tree here is used, or the installed one.
    """

    name = "floor"
    isolation = "all namespaces, user ids, overlay, cgroups, seccomp: only the system calls"
    _server: subprocess.Popen[bytes] | None = None
    # The cheapest known way of each step: a tmpfs as upper directory, /dev made outside, the layer's id map made once.
    flags: tuple[str, ...] = ("--upper", "own", "--dev", "parent", "--lower", "cached", "--mask", "shared")

    def open(self) -> str:
        installed = Path(__file__).parents[1] / "fastdock_floor"
        built = sorted(Path.cwd().glob("build/**/fastdock_floor"))
        named = os.environ.get("FASTDOCK_FLOOR")
        candidates = [Path(named)] if named else [*built, installed]
        found = [path for path in candidates if path.is_file()]
        if not found:
            raise Missing("fastdock_floor is not built: docs/benchmarks.md")
        if os.geteuid() != 0:
            raise Missing("the floor program needs root")
        self._program = str(found[0].resolve())
        return "bench/floor"

    def prepare(self, workload: Workload) -> None:
        self._stop()
        self._expect = workload.expect
        self._options = [
            "--rootfs",
            str(self.rootfs(workload)),
            "--state",
            str(self.scratch / "state"),
            *self.flags,
        ]
        self._inside = workload.inside()
        # A process that waits between its starts, as warm as the one that measures.
        self._server = subprocess.Popen(
            [
                self._program,
                *self._options,
                "--cgroup",
                f"{self.mark}serve",
                "--serve",
                "yes",
                "--",
                *self._inside,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self) -> float | None:
        assert self._server is not None
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(b"\n")
        self._server.stdin.flush()
        printed = b""
        for line in self._server.stdout:
            if line.strip().isdigit():
                break
            printed += line
        else:
            raise CommandFailed(f"status {self._server.wait()}")
        if self._expect not in printed:
            raise CommandFailed(f"the output lacks {self._expect!r}")
        return int(line) / 1e9

    def _stop(self) -> None:
        if self._server is not None:
            self._server.communicate()  # the end of its input is the end of it
            self._server = None

    def close(self) -> None:
        self._stop()
        super().close()

    def batch(self, threads: int, count: int) -> float | None:
        each = -(-count // threads)
        argv = [
            self._program,
            *self._options,
            "--cgroup",
            f"{self.mark}batch",
            "--iterations",
            str(each),
            "--warmup",
            "0",
            "--threads",
            str(threads),
            "--",
            *self._inside,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            raise CommandFailed(done.stderr.strip() or f"status {done.returncode}")
        return float(json.loads(done.stdout.splitlines()[-1])["wall_ns"]) / 1e9 * count / (each * threads)


class FloorDisk(Floor):
    """The floor with its upper and work directory on the state directory's own file system."""

    name = "floor on disk"
    isolation = "as the floor, upper directory on disk"
    flags = ("--dev", "parent", "--lower", "cached", "--mask", "shared")
