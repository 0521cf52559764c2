"""What the tests of kept containers share."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastdock import Container, ContainerNotFound, Engine, _core

SLEEP = ["sleep", "1000"]


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
