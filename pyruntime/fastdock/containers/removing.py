"""Removing a kept container: its process, its files, its row; nobody starts it meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotRunning
from fastdock.containers import control

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastdock.containers.container import Container


def remove(container: Container, *, force: bool, volumes: bool) -> None:
    """:meth:`Container.remove`."""
    while True:
        state = container.state
        if state.running and not force:
            raise Conflict(
                f'cannot remove container "/{container.name}": container is {state.status}',
                hint="stop the container before removing or force remove",
            )
        if state.running:
            _kill_now(container)
        with _run_lock(container) as locked:
            if locked:
                _remove_all(container, volumes)
                return


def _kill_now(container: Container) -> None:
    try:
        with container._connect() as connection:
            connection.ask(control.STOP, control.STOP_AND_FORGET)
            connection.wait_for_end()
    except ContainerNotRunning:
        container._containers.repair()


def _remove_all(container: Container, volumes: bool) -> None:
    from fastdock.containers.networking import give_back

    containers, record = container._containers, container.record
    give_back(containers, record)
    containers.remove_files(record.id, record.ids)
    containers.engine.store.release(f"container:{record.id}")
    if not containers.records.drop(record.id):
        return
    if volumes or record.auto_remove:
        containers.volumes.drop_unused(record.document.get("volumes") or [])
    containers.event("destroy", record)


@contextmanager
def _run_lock(container: Container) -> Iterator[bool]:
    """Holds the run directory, so that nobody starts the container meanwhile.  False: somebody has it."""
    with suppress(FileExistsError):
        os.makedirs(container.run_directory, mode=0o700)
    try:
        lock = os.open(container.run_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # its monitor has just removed it: look again
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a monitor that is about to end, or one that begins: look again
            time.sleep(0.001)
            yield False
            return
        if os.fstat(lock).st_nlink == 0:
            yield False
            return
        try:
            yield True
        finally:
            _core.remove_tree(container.run_directory)
    finally:
        os.close(lock)
