"""fastdock itself: called in this process, and as a command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running, find_program, first_line
from .engines import Ended
from .leftovers import end_everything

__all__ = ["Fastdock", "FastdockDetached", "FastdockDisk", "FastdockShell", "import_workload"]

_LIMITS: dict[str, Any] = {"memory": "256m", "pids": 100, "cpus": 1}


def import_workload(engine: Any, workload: Workload, rootfs: Path) -> str:
    """The workload's root file system as an image of this engine's store; its name."""
    name = f"fdbench/{workload.image}"
    if name not in engine.images:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(rootfs, arcname=".")
        buffer.seek(0)
        engine.images.import_tar(buffer, name)
    return name


class Fastdock(Peer):
    """``fastdock.run`` in this process, with the limits that the other engines get."""

    name = "fastdock"
    isolation = "all namespaces, user ids, overlay (in memory), cgroups, seccomp; in-process"
    storage = "memory"
    more_options: ClassVar[Mapping[str, Any]] = {}

    @property
    def engine(self) -> Any:
        """Once it is open."""
        return self._engine

    def open(self) -> str:
        try:
            import fastdock
            from fastdock import Engine
        except ImportError as error:
            raise Missing(f"fastdock is not built: {error}") from error
        if os.geteuid() != 0:
            raise Missing("needs root (the cgroups)")
        self._engine = Engine(root=self.scratch / "root")
        return str(fastdock.__version__)

    @property
    def cgroup_parent(self) -> str:
        """Where this engine's containers have their cgroups, below each hierarchy."""
        return str(self._engine.cgroup_parent)

    def prepare(self, workload: Workload) -> None:
        self._image = import_workload(self._engine, workload, self.rootfs(workload))
        self._argv, self._expect = workload.inside(), workload.expect
        self._options = {**_LIMITS, "storage": self.storage, "pull": "never", **self.more_options}

    def pool(self, size: int) -> Any:
        """A ``fastdock.Pool`` of what is prepared here."""
        from fastdock import Pool

        return Pool(self._image, size=size, engine=self._engine, **self._options)

    def run(self) -> float | None:
        if not self._expect:
            done = self._engine.run(self._image, self._argv, **self._options)
        else:
            done = self._engine.run(self._image, self._argv, capture_output=True, **self._options)
        if done.returncode != 0 or (self._expect and self._expect not in done.stdout):
            raise CommandFailed(f"status {done.returncode}: {done.stdout!r} {done.stderr!r}")
        return None

    def begin(self) -> float:
        """Seconds until the program runs: its execve is done when Popen returns."""
        begin = time.perf_counter()
        process = self._engine.Popen(self._image, self._argv, **self._options)
        seconds = time.perf_counter() - begin
        process.wait()
        return seconds

    def start(self) -> Running:
        from fastdock import DEVNULL

        return _Started(
            self._engine.Popen(self._image, self._argv, stdin=DEVNULL, stdout=DEVNULL, **self._options)
        )

    def run_archive(self, archive: Path, image: str) -> Callable[[], float | None]:
        """Loads an archive of `docker save`; the function runs the image's own command."""
        self._engine.images.load(archive)

        def run() -> None:
            done = self._engine.run(image, **_LIMITS, storage=self.storage, pull="never")
            if done.returncode:
                raise CommandFailed(f"status {done.returncode}")

        return run

    def close(self) -> None:
        if hasattr(self, "_engine"):
            _remove_all(self._engine)
            if self._engine._networks is not None:
                self._engine.networks.take_down()
            self._engine.close()
        super().close()


class FastdockDisk(Fastdock):
    """The same with the container's files on the state directory's file system."""

    name = "fastdock on disk"
    isolation = "as fastdock, overlay on disk"
    storage = "disk"


class _Started(Running):
    """A container that this process owns: nothing else is kept for it."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def own_pids(self) -> list[int]:
        return [self._process.pid]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class FastdockDetached(Fastdock):
    """A container that outlives its caller, with its monitor, record and log: to its end and its removal."""

    name = "fastdock detached"
    isolation = "as fastdock, kept by a monitor; in-process"

    def prepare(self, workload: Workload) -> None:
        super().prepare(workload)
        del self._options["storage"]  # what is kept is kept on disk
        self._options["network"] = "none"

    def run(self) -> float | None:
        container = self._engine.containers.create(self._image, self._argv, **self._options)
        try:
            container.start()
            status = container.wait()
            printed = b"".join(entry.data for entry in container.logs()) if self._expect else b""
            if status != 0 or self._expect not in printed:
                raise CommandFailed(f"status {status}: {printed!r}")
        finally:
            container.remove(force=True)
        return None

    def start(self) -> Running:
        container = self._engine.containers.create(self._image, self._argv, **self._options)
        container.start()
        return _Kept(container)

    def keeper_pids(self) -> list[int]:
        return _monitors(_Kept.alive)


class _Kept(Running):
    alive: list[int] = []  # noqa: RUF012  the processes of all that run now

    def __init__(self, container: Any) -> None:
        self._container, self._pid = container, int(container.inspect()["State"]["Pid"])
        self.alive.append(self._pid)

    def own_pids(self) -> list[int]:
        return [self._pid]

    def run_inside(self) -> float | None:
        done = self._container.exec(["/bin/true"])
        if done.returncode:
            raise CommandFailed(f"status {done.returncode}")
        return None

    def stop(self) -> None:
        self.alive.remove(self._pid)
        self._container.remove(force=True)


def _monitors(containers: list[int]) -> list[int]:
    """The parents of containers' first processes."""
    found = []
    for pid in containers:
        status = Path(f"/proc/{pid}/status").read_text()
        found.append(int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))))
    return found


class FastdockShell(Peer):
    """``fastdock run --rm`` as a whole process, without a server."""

    name = "fastdock shell"
    isolation = "as fastdock; the whole command"
    network_options: tuple[str, ...] = ("--network", "none")

    def open(self) -> str:
        # The native launcher where it is built, the Python command line otherwise.
        beside = [Path(sys.executable).with_name(name) for name in ("fastdock", "fastdock-python")]
        found = [str(path) for path in beside if path.exists()]
        self._program = found[0] if found else find_program("fastdock")
        self._environment = {**os.environ, "FASTDOCK_ROOT": str(self.scratch / "root")}
        self._running: list[int] = []
        helped = subprocess.run([self._program, "run", "--help"], capture_output=True, check=False)
        if helped.returncode:
            raise Missing("this fastdock has no command `run`")
        return first_line(self._program, "version")

    def prepare(self, workload: Workload) -> None:
        from fastdock import Engine

        with Engine(root=self.scratch / "root") as engine:
            image = import_workload(engine, workload, self.rootfs(workload))
        self._words = [
            *self.network_options,
            "--memory",
            "256m",
            "--pids-limit",
            "100",
            "--cpus",
            "1",
            image,
            *workload.inside(),
        ]
        self._expect = workload.expect

    def run(self) -> float | None:
        return spawn([self._program, "run", "--rm", *self._words], expect=self._expect, env=self._environment)

    def start(self) -> Running:
        done = subprocess.run(
            [self._program, "run", "--detach", *self._words],
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise Missing(f"run --detach: {done.stderr.strip()[-200:]}")
        running = Ended([self._program], done.stdout.strip(), environment=self._environment)
        self._running += running.own_pids()
        return running

    def keeper_pids(self) -> list[int]:
        return _monitors([pid for pid in self._running if Path(f"/proc/{pid}").exists()])

    def close(self) -> None:
        if hasattr(self, "_program"):
            from fastdock import Engine

            end_everything(
                self.scratch, self.mark
            )  # a command that runs: its container is ended by who comes next
            with Engine(root=self.scratch / "root") as engine:
                _remove_all(engine)
        super().close()


def _remove_all(engine: Any) -> None:
    """What a command that was killed half-way has left."""
    for container in engine.containers.list(all=True):
        container.remove(force=True)
