"""The helper of ``remote.py``: in its user's namespaces it starts containers for the process that it is a child of.

It ends with that process, and so do the containers.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import sys
import threading
from typing import Any

from fastdock._errors import FastdockError
from fastdock.rootless import enter
from fastdock.rootless.remote import receive, send


def main() -> None:
    """``helper.py DESCRIPTOR ROOT``: the socket to its parent, and the state directory."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        enter()  # before there is a thread
        from fastdock.engine import Engine

        engine = Engine(sys.argv[2])
    except FastdockError as error:
        control.send(pickle.dumps(error))
        sys.exit(1)
    control.send(b"ready")
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not word:
            break
        threading.Thread(target=_serve, args=(engine, socket.socket(fileno=descriptors[0]))).start()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    engine.close()


def _serve(engine: Any, connection: socket.socket) -> None:
    """One container, from its start until it has ended or nobody holds it any more."""
    with connection:
        try:
            _, stdio, _, _ = socket.recv_fds(connection, 1, 3)
            try:
                image, args, options = receive(connection)[0]
                command, container = engine._start(image, args, stdio, options, outlive_thread=False)
            finally:
                for descriptor in stdio:
                    os.close(descriptor)
            facts = (command, container.pid, container.id, list(container.warnings))
            send(connection, facts, [container.pidfd])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            _tell(connection, error)
            return
        _wait(connection, container)


def _wait(connection: socket.socket, container: Any) -> None:
    poll = select.poll()
    poll.register(container.pidfd, select.POLLIN)
    poll.register(connection, select.POLLHUP)
    if all(descriptor != container.pidfd for descriptor, _ in poll.poll()):
        container.kill(signal.SIGKILL)
    try:
        status = container.wait(-1)
        _tell(connection, (status, container.finish()))
    except FastdockError as error:
        _tell(connection, error)


def _tell(connection: socket.socket, value: Any) -> None:
    try:
        send(connection, value)
    except OSError:
        pass  # nobody listens any more
