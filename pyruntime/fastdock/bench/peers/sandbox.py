"""Sandboxes: they isolate less than a container does (each says what)."""

from __future__ import annotations

import importlib
import subprocess
from importlib.metadata import version
from typing import Any

from ..spawn import CommandFailed, spawn
from ..workload import Workload
from .base import Missing, Peer, Running, find_program, first_line

__all__ = ["Bubblewrap", "Sandlock"]


class Bubblewrap(Peer):
    """bwrap with all the namespaces that it knows; no cgroup, no overlay, no seccomp."""

    name = "bubblewrap"
    kind = "sandbox"
    isolation = "namespaces; read-only root; no cgroup, no overlay"

    def open(self) -> str:
        self._program = find_program("bwrap")
        return first_line(self._program, "--version")

    def prepare(self, workload: Workload) -> None:
        self._argv = [
            self._program,
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            str(self.rootfs(workload)),
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--setenv",
            "PATH",
            "/bin:/usr/bin",
            *workload.inside(),
        ]
        self._expect = workload.expect

    def run(self) -> float | None:
        return spawn(self._argv, expect=self._expect)

    def start(self) -> Running:
        return _Wrapped(subprocess.Popen(self._argv))

    def keeper_pids(self) -> list[int]:
        return list(_Wrapped.keepers)


class _Wrapped(Running):
    keepers: set[int] = set()  # noqa: RUF012  bwrap's own processes, of all that run

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._own: list[int] = []
        _Wrapped.keepers.add(process.pid)

    def own_pids(self) -> list[int]:
        return []

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        _Wrapped.keepers.discard(self._process.pid)


class Sandlock(Peer):
    """sandlock from PyPI, in this process: Landlock and seccomp; no namespaces, image or network of its own."""

    name = "sandlock"
    kind = "sandbox"
    isolation = "Landlock, seccomp, chroot; no namespaces, no network of its own, no overlay"

    def open(self) -> str:
        try:
            self._module: Any = importlib.import_module("sandlock")
        except ImportError as error:
            raise Missing("sandlock is not installed: pip install sandlock") from error
        return version("sandlock")

    def prepare(self, workload: Workload) -> None:
        if workload.name == "web":
            raise Missing("its processes use the host's network")
        self._argv = workload.inside()
        self._box = self._module.Sandbox(
            chroot=str(self.rootfs(workload)), fs_readable=["/"], max_memory="512M"
        )

    def run(self) -> float | None:
        # The output is not compared: it is returned in no form that names stdout.
        result = self._box.run(self._argv, timeout=60)
        if not result.success:
            raise CommandFailed(f"{result.reason} {result.error}")
        return None
