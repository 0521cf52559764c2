"""A cgroup with real processes in it, on whichever version this machine has, and that nothing is left of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdock._core import Cgroup, Limits, cgroup_info

MIB = 1 << 20
INFO = cgroup_info()
MOUNTS = [Path(hierarchy["mount_point"]) for hierarchy in INFO["hierarchies"]]
IS_V2 = INFO["version"] == 2
TOP = f"fastdock-test-{os.getpid()}"


def leftovers() -> list[Path]:
    return [path for mount in MOUNTS for path in mount.glob(f"{TOP}*/*/")]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    left = leftovers()
    for mount in MOUNTS:
        if (mount / TOP).exists():
            (mount / TOP).rmdir()
    assert left == []


class Box:
    """A cgroup and the processes that a test starts in it."""

    def __init__(self, name: str = "box", **arguments: Any) -> None:
        options = {key: arguments.pop(key) for key in ("unified", "all_controllers") if key in arguments}
        self.cgroup = Cgroup.create(f"{TOP}/{name}", Limits(**arguments), **options)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a program in the cgroup, as a launch does: the child moves itself."""
        directory, procs, tasks = self.cgroup.join_descriptors()

        def enter() -> None:
            for descriptor in tasks if procs < 0 else [*tasks, procs]:
                os.write(descriptor, b"0")

        process = subprocess.Popen(argv, preexec_fn=enter, stdout=subprocess.PIPE, **options)
        self.started.append(process)
        for descriptor in [directory, procs, *tasks]:
            if descriptor >= 0:
                os.close(descriptor)
        return process

    def start_ready(self, script: str) -> subprocess.Popen[bytes]:
        """Starts a shell script and waits for its first line of output."""
        process = self.start("sh", "-c", script)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        return process

    def run(self, *argv: str, **options: Any) -> tuple[int, bytes]:
        process = self.start(*argv, **options)
        output = process.communicate()[0]
        return process.returncode, output

    def directory(self, controller: str) -> Path:
        directories = self.cgroup.directories()
        return Path(directories.get(controller) or directories[""])

    def end(self) -> None:
        self.cgroup.kill()
        for process in self.started:
            with process:  # closes its pipes, waits
                pass
        self.cgroup.remove()


@pytest.fixture
def boxes() -> Iterator[Any]:
    made: list[Box] = []

    def make(*names: str, **arguments: Any) -> Box:
        made.append(Box(*names, **arguments))
        return made[-1]

    yield make
    for box in made:
        box.end()
