"""Starting a kept container: one start at a time, its networks, and what is noted when it fails."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager

from fastdock import _core
from fastdock._errors import ContainerNotFound, ContainerNotRunning, KernelError
from fastdock.containers import control
from fastdock.containers.control import Control

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastdock.containers.container import Container


def start(container: Container, attach: int, terminal: tuple[int, int] | None) -> Control | None:
    """:meth:`Container.start`."""
    with start_lock(container):
        tries = 2
        while not container.state.running:
            tries -= 1
            try:
                return _start(container, attach, terminal)
            except KernelError as error:
                if error.errno == errno.EBUSY and error.operation == "lock":
                    if not _started_by_another(container):
                        continue
                    return None
                if tries and _lost_network(container, error):
                    continue
                _note_failure(container, error)
                raise
    return None


def _start(container: Container, attach: int, terminal: tuple[int, int] | None) -> Control | None:
    from fastdock.containers.creation import plan_of_record, request_for
    from fastdock.containers.networking import open_endpoint

    containers, record = container._containers, container.record
    start = plan_of_record(containers, record, container._asked)
    endpoint = open_endpoint(containers, record, start.options, start.exposed)
    try:
        request = request_for(containers, record, start, terminal, endpoint)
        _, container.warnings, descriptor = _core.start_monitor(request, attach)
    except BaseException:
        endpoint.close()
        raise
    endpoint.keep(container.run_directory, starting=False)
    connection = Control.adopt(descriptor)
    if attach:
        return connection
    connection.close()
    return None


def _lost_network(container: Container, error: KernelError) -> bool:
    """Whether somebody flushed the firewall or killed the resolver just now: then another try is worth it."""
    from fastdock.containers.networking import uses_networks
    from fastdock.engine import is_network_lost

    return uses_networks(container.record) and is_network_lost(error)


@contextmanager
def start_lock(container: Container) -> Iterator[None]:
    """One start at a time: what it takes for the container (addresses, files) it takes alone."""
    try:
        lock = container._open_lock()
    except FileNotFoundError:
        raise ContainerNotFound(f"no such container: {container.name}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _started_by_another(container: Container) -> bool:
    """Waits for the outcome of the start that is going on."""
    try:
        with container._connect() as connection:
            return connection.ask(control.ATTACH, 0) is not None
    except ContainerNotRunning:
        return False


def _note_failure(container: Container, error: KernelError) -> None:
    code = 127 if isinstance(error, FileNotFoundError) else 126 if error.operation == "execute" else 128
    state = container.state._replace(
        status=container.state.status, exit_code=code, error=str(error), health=None
    )
    document = {name: value for name, value in state._asdict().items() if value is not None}
    _core.write_state(container.directory, _core.dump_json(document), False)
