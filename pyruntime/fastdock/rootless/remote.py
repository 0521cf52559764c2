"""``fastdock.run`` and ``Popen`` from an ordinary user's program, which itself stays as it is.

A process with threads cannot enter a user namespace (setns(2)), and a program does not expect its user and its
network to change.  So a helper (``helper.py``), a child of this process, enters them, and starts the containers; this
process keeps their pidfds and standard streams, and asks the helper how they ended.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fastdock._errors import FastdockError

_LENGTH = struct.Struct("!I")


class Launcher:
    """Starts containers of the state directory ``root`` in a helper; one for each process and working directory."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._helpers: dict[tuple[int, str], socket.socket] = {}

    def start(
        self,
        image: str | Sequence[str] | None,
        args: Sequence[str] | str | None,
        stdio: Sequence[int],
        options: Mapping[str, Any],
    ) -> tuple[list[str], RemoteContainer]:
        """As ``Engine._start``.  Raises what that raises there, or FastdockError: no helper."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._hand_over(theirs)
        try:
            socket.send_fds(ours, [b"3"], list(stdio))
            send(ours, (image, args, dict(options)))
            message, descriptors = receive(ours)
        except (EOFError, OSError) as error:
            ours.close()
            raise FastdockError("the rootless helper ended before the container started") from error
        if isinstance(message, BaseException):
            ours.close()
            raise message
        command, *facts = message
        return command, RemoteContainer(ours, descriptors[0], *facts)

    def close(self) -> None:
        """The helpers end when their containers have; nothing starts there any more."""
        with self._lock:
            for (pid, _), helper in self._helpers.items():
                if pid == os.getpid():
                    helper.close()
            self._helpers.clear()

    def __del__(self) -> None:
        self.close()

    def _hand_over(self, connection: socket.socket) -> None:
        key = (
            os.getpid(),
            os.getcwd(),
        )  # after a fork the parent's is not ours; relative paths are of the directory
        with self._lock:
            for last in (False, True):
                helper = self._helpers.get(key)
                if helper is None:
                    helper = self._helpers[key] = _start_helper(self._root)
                try:
                    socket.send_fds(helper, [b"c"], [connection.fileno()], socket.MSG_NOSIGNAL)
                    return
                except OSError as error:  # it was killed
                    del self._helpers[key]
                    if last:
                        raise FastdockError("the rootless helper does not start") from error


def _start_helper(root: str) -> socket.socket:
    """A helper that has entered the namespaces; raises what kept it from that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # The same modules that this program would import; -I, so that no other variable has a say in it.
        code = f"import sys; sys.path[:] = {sys.path!r}; from fastdock.rootless.helper import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, str(theirs.fileno()), root],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for this program to act upon
        )
    process.returncode = 0  # its end is no warning of subprocess's; the kernel reaps it with us
    said = ours.recv(65536)
    if said != b"ready":
        ours.close()
        os.waitpid(process.pid, 0)
        if said:
            raise pickle.loads(said)
        raise FastdockError("the rootless helper does not start: see what it printed")
    return ours


class RemoteContainer:
    """A ``_core.Container`` that the helper has started, with its methods."""

    def __init__(
        self, connection: socket.socket, pidfd: int, pid: int, identifier: str, warnings: list[str]
    ) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._end: tuple[tuple[int, int], tuple[int, int | None, int]] | None = None
        self.pidfd, self.pid, self.id, self.warnings = pidfd, pid, identifier, warnings

    def __del__(self) -> None:
        os.close(self.pidfd)
        self._connection.close()  # the helper kills what nobody holds any more

    def wait(self, timeout_ms: int = -1) -> tuple[int, int] | None:
        """(exit code, signal or 0); None when the time is up."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(timeout_ms):
            return None
        return self._ended()[0]

    def kill(self, number: int) -> None:
        """Sends a signal to its first process; nothing happens when it has ended."""
        if self._end is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def finish(self) -> tuple[int, int | None, int]:
        """What it used; nothing is left of it."""
        return self._ended()[1]

    def _ended(self) -> tuple[tuple[int, int], tuple[int, int | None, int]]:
        with self._lock:
            if self._end is None:
                try:
                    answer, _ = receive(self._connection)
                except (EOFError, OSError) as error:
                    raise FastdockError(
                        "the rootless helper was killed, and its containers with it"
                    ) from error
                if isinstance(answer, BaseException):
                    raise answer
                self._end = answer
            return self._end


def send(connection: socket.socket, value: Any, descriptors: Sequence[int] = ()) -> None:
    """One value; of a child and its parent, who may do the same things."""
    data = pickle.dumps(value)
    head = _LENGTH.pack(len(data))
    if descriptors:
        socket.send_fds(connection, [head], list(descriptors))
    else:
        connection.sendall(head)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """The next value, and the descriptors that came with it.  EOFError: the other side is gone."""
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
    while 0 < len(head) < _LENGTH.size:
        head += connection.recv(_LENGTH.size - len(head))
    if not head:
        raise EOFError
    (left,) = _LENGTH.unpack(head)
    parts = []
    while left:
        part = connection.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return pickle.loads(b"".join(parts)), descriptors
