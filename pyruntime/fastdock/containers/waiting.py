"""Waiting for a container to be of use: healthy, listening, answering, saying something.  No polling of files."""

from __future__ import annotations

import os
import re
import select
import time
from typing import TYPE_CHECKING

from fastdock import _core
from fastdock._errors import ContainerNotRunning, SpecError
from fastdock._process_errors import TimeoutExpired

if TYPE_CHECKING:
    from fastdock.containers.container import Container

_RETRY = 0.02  # seconds between two attempts to connect: nothing tells of a port that begins to listen


def wait_until_healthy(container: Container, timeout: float | None) -> None:
    """:meth:`Container.wait_until_healthy`."""
    if container.record.document["settings"].get("health") is None:
        raise SpecError(f"container {container.name} has no health check")
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = _watch(container)
    try:
        while True:
            state = _running(container)
            if state.health is not None and state.health["status"] == "healthy":
                return
            _wait(container, [watch], deadline, timeout)
    finally:
        os.close(watch)


def _watch(container: Container) -> int:
    try:
        return _core.watch_files([container.run_directory])
    except FileNotFoundError:
        raise ContainerNotRunning(f"container {container.name} is not running") from None


def _running(container: Container):  # type: ignore[no-untyped-def]
    state = container.state
    if not state.running:
        raise ContainerNotRunning(f"container {container.name} has ended with code {state.exit_code}")
    return state


def _wait(container: Container, descriptors: list[int], deadline: float | None, timeout: float | None) -> None:
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        assert timeout is not None
        raise TimeoutExpired(container.record.command, timeout)
    for descriptor in select.select(descriptors, [], [], left)[0]:
        os.read(descriptor, 65536)


def wait_for(
    container: Container, *, log: str | None, port: int | None, http: str | None, timeout: float | None
) -> None:
    """:meth:`Container.wait_for`."""
    if (log is None) + (port is None) + (http is None) != 2:
        raise SpecError("wait_for: give one of log, port and http")
    deadline = None if timeout is None else time.monotonic() + timeout
    if log is not None:
        _wait_for_log(container, re.compile(log.encode()), deadline, timeout)
        return
    if http is not None:
        number, slash, path = http.partition("/")
        if not number.isdigit() or not slash:
            raise SpecError(f"wait_for: http={http!r}: write PORT/path")
        port = int(number)
        _retry(container, lambda: _answers(container, int(number), "/" + path), deadline, timeout)
        return
    assert port is not None
    _retry(container, lambda: _listens(container, port), deadline, timeout)


def _wait_for_log(container: Container, pattern: re.Pattern[bytes], deadline: float | None, timeout: float | None) -> None:
    from fastdock import _streams
    from fastdock.containers.logs import _Follower

    watch = _core.watch_files([container.directory])
    try:
        follower = _Follower(container._containers.log_path(container.id), None)
        while True:
            state = container.state
            for block in follower.read():
                if any(pattern.search(data) for _, data in _streams.plain_log(block)):
                    return
            if not state.running:
                raise ContainerNotRunning(f"container {container.name} has ended with code {state.exit_code}")
            _wait(container, [watch], deadline, timeout)
    finally:
        os.close(watch)


def _retry(container: Container, attempt, deadline: float | None, timeout: float | None) -> None:  # type: ignore[no-untyped-def]
    while not attempt():
        _running(container)
        if deadline is not None and time.monotonic() >= deadline:
            assert timeout is not None
            raise TimeoutExpired(container.record.command, timeout)
        time.sleep(_RETRY)


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
    import http.client

    sock = _core.connect_in(_running(container).pid, port)
    if sock < 0:
        return False
    import socket

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.sock = socket.socket(fileno=sock)
    connection.sock.settimeout(5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
