"""What every way of running a workload offers to the measurements."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..workload import Workload, rootfs_for
from .leftovers import end_everything

__all__ = ["Missing", "Peer", "Running", "find_program", "first_line"]


class Missing(Exception):
    """This peer cannot be measured here; the text says why."""


class Running(ABC):
    """An idle container (or VM, or process) that a memory measurement looks at."""

    @abstractmethod
    def own_pids(self) -> list[int]:
        """The processes of the workload itself, as the host sees them."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it and leaves nothing behind."""

    def guest_bytes(self) -> int:
        """For a VM: the memory in use inside, as its own kernel sees it."""
        return 0

    def run_inside(self) -> float | None:
        """Runs /bin/true in it beside its program (exec); Missing if that is not possible."""
        raise Missing("nothing can be run in it")


class Peer(ABC):
    """A way to run a workload.

    The life of one: ``open`` (may raise Missing), ``prepare`` a workload, ``run`` it often, ``close``.
    """

    name: str = ""
    kind: str = "container"  # process | sandbox | container | vm
    isolation: str = ""  # in a few words, for the reader of a table
    every: int = 1  # measured in each n-th round: slow peers take part less often

    def __init__(self, scratch: Path) -> None:
        word = self.name.replace(" ", "-") or "peer"
        self.scratch = scratch / word
        self.shared = scratch
        # In the names of this engine's containers or cgroups: what a killed command leaves is found by it.
        self.mark = f"fdbench-{os.getpid()}-{self.name.replace(' ', '_')}-"
        # For sockets (108 bytes, unix(7)) and podman's --runroot (50 bytes); who needs it makes it.
        self.short = Path("/run" if os.access("/run", os.W_OK) else "/tmp") / self.mark.rstrip("-")

    @abstractmethod
    def open(self) -> str:
        """Makes ready what all runs share, and returns the version.  Raises Missing with the reason."""

    @abstractmethod
    def prepare(self, workload: Workload) -> None:
        """Makes ready for this workload; not timed."""

    @abstractmethod
    def run(self) -> float | None:
        """Runs the prepared workload to its end and checks what it printed; the seconds, if measured inside."""

    def batch(self, threads: int, count: int) -> float | None:
        """``count`` runs by so many threads: the seconds, if the peer has a way of its own to do that."""
        return None

    def start(self) -> Running:
        """Starts the prepared workload and leaves it running; Missing if that is not possible here."""
        raise Missing("no detached containers")

    def keeper_pids(self) -> list[int]:
        """Every process that the engine itself keeps now: daemons, shims, monitors."""
        return []

    def close(self) -> None:
        """Undoes open; ends what a command that was killed half-way has left."""
        for directory in (self.scratch, self.short):
            end_everything(directory, self.mark)
        shutil.rmtree(self.short, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def rootfs(self, workload: Workload) -> Path:
        """The workload's root file system, shared by all peers."""
        return rootfs_for(workload, self.shared)

    @contextmanager
    def opened(self) -> Iterator[str]:
        """open and close around a block."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        try:
            yield self.open()
        finally:
            self.close()


def find_program(name: str) -> str:
    """The absolute path of a program; Missing if it is not installed."""
    # Debian keeps some of them where an ordinary PATH does not look.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def first_line(*argv: str) -> str:
    """The first line that a command prints: its version, usually."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
