"""Waiting for a container to be of use: healthy, listening, answering, saying something."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time

from fastdock import _core, _streams
from fastdock._errors import ContainerNotRunning, SpecError
from fastdock._process_errors import TimeoutExpired
from fastdock.containers.logs import Follower
from fastdock.containers.steps import Steps, Wait

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastdock.containers.container import Container
    from fastdock.containers.state import State

_RETRY = 0.02  # seconds between two attempts to connect: nothing tells of a port that begins to listen


def healthy_steps(container: Container, timeout: float | None) -> Steps[None]:
    """:meth:`Container.wait_until_healthy`, in steps."""
    if container.record.document["settings"].get("health") is None:
        raise SpecError(f"container {container.name} has no health check")
    limit = _Limit(container, timeout)
    try:
        watch = _core.watch_files([container.run_directory])
    except FileNotFoundError:
        raise ContainerNotRunning(f"container {container.name} is not running") from None
    try:
        while True:
            state = _running(container)
            if state.health is not None and state.health["status"] == "healthy":
                return
            yield from limit.wait(watch)
    finally:
        os.close(watch)


def waiting_steps(
    container: Container, *, log: str | None, port: int | None, http: str | None, timeout: float | None
) -> Steps[None]:
    """:meth:`Container.wait_for`, in steps."""
    if (log is None) + (port is None) + (http is None) != 2:
        raise SpecError("wait_for: give one of log, port and http")
    limit = _Limit(container, timeout)
    if log is not None:
        return _log_steps(container, re.compile(log.encode(), re.MULTILINE), limit)
    if port is not None:
        wanted = port
        return _retries(lambda: _listens(container, wanted), limit)
    assert http is not None
    number, slash, path = http.partition("/")
    if not number.isdigit() or not slash:
        raise SpecError(f"wait_for: http={http!r}: write PORT/path")
    return _retries(lambda: _answers(container, int(number), "/" + path), limit)


class _Limit:
    """The time that a wait has."""

    def __init__(self, container: Container, timeout: float | None) -> None:
        self._container, self._timeout = container, timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """TimeoutExpired when there is none."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            assert self._timeout is not None
            raise TimeoutExpired(self._container.record.command, self._timeout)
        return left

    def wait(self, watch: int) -> Steps[None]:
        yield Wait((watch,), self.left())
        try:
            os.read(watch, 65536)
        except BlockingIOError:  # the time was up
            pass


def _running(container: Container) -> State:
    state = container.state
    if not state.running:
        raise ContainerNotRunning(f"container {container.name} has ended with code {state.exit_code}")
    return state


def _log_steps(container: Container, pattern: re.Pattern[bytes], limit: _Limit) -> Steps[None]:
    watch = _core.watch_files([container.directory])
    follower = Follower(container._containers.log_path(container.id))
    try:
        while True:
            state = container.state  # asked first: what it wrote before its end is in the log then
            for block in follower.read():
                if any(pattern.search(data) for _, data in _streams.plain_log(block)):
                    return
            if not state.running:
                raise ContainerNotRunning(f"container {container.name} has ended with code {state.exit_code}")
            yield from limit.wait(watch)
    finally:
        os.close(watch)
        follower.close()


def _retries(attempt: Callable[[], bool], limit: _Limit) -> Steps[None]:
    while not attempt():
        left = limit.left()
        yield Wait((), _RETRY if left is None else min(left, _RETRY))


def _listens(container: Container, port: int) -> bool:
    """Whether a TCP socket listens on the port, from the container's own table: no connection is made."""
    pid = _running(container).pid
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{name}") as file:
                lines = file.readlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # TCP_LISTEN
                return True
    return False


def _answers(container: Container, port: int, path: str) -> bool:
    """Whether an HTTP server in the container answers below 400, asked from inside its network namespace."""
    descriptor = _core.connect_in(_running(container).pid, port)
    if descriptor < 0:
        return False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.sock = socket.socket(fileno=descriptor)
    connection.sock.settimeout(5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
