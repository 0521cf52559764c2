"""What the tests of kept containers share."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastdock import Container, ContainerNotFound, Engine, _core

SLEEP = ["sleep", "1000"]

# A program that starts one container in the state directory of its argument; {name} is to be filled in.
START_ONE = """
import sys
from fastdock import Engine
Engine(sys.argv[1]).containers.create("busybox", ["sleep", "1000"], name="{name}").start()
"""


@contextmanager
def container(
    engine: Engine, args: list[str] | None = None, image: str = "busybox", **options: Any
) -> Iterator[Container]:
    """A started container, removed at the end whatever happened."""
    made = engine.containers.create(image, args or SLEEP, **options)
    try:
        made.start()
        yield made
    finally:
        try:
            made.remove(force=True, volumes=True)
        except ContainerNotFound:
            pass


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def output_of(made: Container, stream: int = 1) -> bytes:
    return b"".join(entry.data for entry in made.logs() if entry.stream == stream)


def wait_until(made: Container, condition: Callable[[], bool], timeout: float = 60) -> None:
    """Waits for a state that the container's files tell of: an event, not a guess."""
    deadline = time.monotonic() + timeout
    watch = _core.watch_files([path for path in (made.directory, made.run_directory) if _exists(path)])
    try:
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"{made}: {made.state}"
            if select.select([watch], [], [], min(left, 1))[0]:
                os.read(watch, 65536)
    finally:
        os.close(watch)


def _exists(path: str) -> bool:
    return os.path.isdir(path)


def cgroups(engine: Engine) -> set[str]:
    """The names of the cgroups of this engine's containers."""
    name = engine.cgroup_parent
    return {
        p.name
        for top in Path("/sys/fs/cgroup").iterdir()
        for p in (top / name).glob("*/")
        if (top / name).is_dir()
    }


def kill_monitor(made: Container) -> None:
    """And returns when it is dead.  ProcessLookupError: it had ended."""
    number = made._containers.state(made.id).monitor
    if not number:
        raise ProcessLookupError
    pidfd = os.pidfd_open(number)
    try:
        # The number may be another's by now, and only what the descriptor stands for is killed.
        if "fastdock-monitor" not in os.readlink(f"/proc/{number}/exe"):
            raise ProcessLookupError
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 60)[0]
    except FileNotFoundError:
        raise ProcessLookupError from None
    finally:
        os.close(pidfd)


def assert_nothing_left(engine: Engine) -> None:
    """No container, and nothing of any."""
    with Engine(engine.root) as fresh:
        for made in fresh.containers:
            made.remove(force=True, volumes=True)
        assert os.listdir(fresh.containers.directory) == []
        assert os.listdir(fresh.containers.run_directory) == []
        ids = os.path.join(fresh.root, "ids")
        assert not os.path.isdir(ids) or os.listdir(ids) == []
        assert cgroups(fresh) == set()
