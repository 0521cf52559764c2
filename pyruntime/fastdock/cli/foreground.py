"""A container in the foreground: its streams are ours, signals go to it, and its end is ours.

It gets our own descriptors wherever that is possible, so that no byte is copied.  Two cases are not: with
``-t`` it has a terminal of its own (so that it cannot put input into ours: CVE-2017-5226), and where our
stdout is a regular file, programs that open /dev/stdout again could not write to a file of another user.
"""

from __future__ import annotations

import os
import select
import stat
import sys

from fastdock.cli.signals import SignalProxy
from fastdock.containers.presence import Presence

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any

    from fastdock import _core
    from fastdock.containers import Container
    from fastdock.containers.execution import Execution
    from fastdock.engine import Engine

_CHUNK = 65536


class Foreground:
    """Runs one container to its end."""

    def __init__(self, engine: Engine, *, tty: bool, interactive: bool, proxy: bool) -> None:
        self._engine = engine
        self._tty = tty
        self._interactive = interactive
        self._proxy = SignalProxy(enabled=proxy)
        self._container: _core.Container | None = None
        self._presence: Presence
        self._terminal = -1
        self._relays: dict[int, int] = {}  # what we copy: from -> to

    def run(
        self, image: str, command: tuple[str, ...], options: dict[str, Any], *, cidfile: str | None = None
    ) -> int:
        """Returns the exit code as a shell gives it."""
        stdio, ours = self._streams()
        size = None
        if self._tty:
            from fastdock.cli.terminal import size_of

            size, options["tty"] = size_of(0), True
        try:
            planned, argv = self._engine._prepare(image, command or None, options)
            self._proxy.hold()  # not before: a pull can be interrupted
            self._container = self._engine._launch(planned, argv, stdio, terminal=size, files=True)
            self._proxy.release_to(self._container.kill)
            self._presence = Presence(self._engine, self._container, planned, image, argv)
        finally:
            for descriptor in ours:
                os.close(descriptor)
        for warning in self._container.warnings:
            print(f"fastdock: warning: {warning}", file=sys.stderr)
        if cidfile:
            with open(cidfile, "w", encoding="ascii") as file:
                file.write(self._container.id)
        status = self._attend()
        self._container.finish()
        self._presence.ended(int(status[0]))
        return int(status[0])

    def _streams(self) -> tuple[list[int], list[int]]:
        """The container's descriptors, and those to close after the start."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if self._tty:
            return [null] * 3, [null]
        stdio, ours = [0 if self._interactive else null], [null]
        for target in (1, 2):
            if stat.S_ISREG(os.fstat(target).st_mode):
                read, write = os.pipe()
                self._relays[read] = target
                stdio.append(write)
                ours.append(write)
            else:
                stdio.append(target)
        return stdio, ours

    def _attend(self) -> tuple[int, int]:
        """Copies what must be copied, until the container has ended and nothing is left to copy."""
        assert self._container is not None
        if self._tty:
            return self._attend_terminal()
        if not self._relays:
            return self._wait()
        while self._relays:
            for descriptor in select.select(list(self._relays), [], [])[0]:
                data = os.read(descriptor, _CHUNK)
                if data:
                    _write_all(self._relays[descriptor], data)
                else:
                    os.close(descriptor)
                    del self._relays[descriptor]
        return self._wait()

    def _attend_terminal(self) -> tuple[int, int]:
        from functools import partial

        from fastdock.cli.terminal import Attended, set_size

        assert self._container is not None
        self._terminal = self._container.take_terminal()
        with Attended(partial(set_size, self._terminal), 0, typed=self._interactive):
            self._copy_terminal(self._container)
        return self._wait()

    def _copy_terminal(self, container: _core.Container) -> None:
        inputs = [self._terminal, container.pidfd] + ([0] if self._interactive else [])
        while True:
            ready = select.select(inputs, [], [])[0]
            if self._terminal in ready:
                try:
                    data = os.read(self._terminal, _CHUNK)
                except OSError:  # EIO: the other side is closed by everybody
                    return
                _write_all(1, data)
            elif container.pidfd in ready:  # it has ended, and nothing is left to read
                return
            if 0 in ready:
                data = os.read(0, _CHUNK)
                if data:
                    _write_all(self._terminal, data)
                else:
                    inputs.remove(0)

    def _wait(self) -> tuple[int, int]:
        assert self._container is not None
        ended = select.poll()
        ended.register(self._container.pidfd, select.POLLIN)
        ended.poll()
        self._presence.ending()
        status = self._container.wait()
        assert status is not None
        return status


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Detached(Exception):
    """The detach keys were typed."""


def _leave_terminal(terminal: int) -> None:
    """Ends this process; another keeps the command's terminal open and reads it, so that the command goes on."""
    if os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for target in range(3):
            os.dup2(null, target)
        try:
            while os.read(terminal, _CHUNK):
                pass
        except OSError:  # EIO: the command has ended
            pass
    os._exit(1)  # as docker


class ForegroundExec:
    """A command in a running container, attended as a container in the foreground is."""

    def __init__(self, container: Container, *, tty: bool, interactive: bool, keys: str) -> None:
        from fastdock.cli.keys import Detacher, parse_keys

        self._container, self._tty, self._interactive = container, tty, interactive
        wanted = parse_keys(keys)
        self._detacher = Detacher(wanted if tty and interactive else b"")

    def run(self, command: tuple[str, ...], options: dict[str, Any]) -> int:
        """Returns the exit code as a shell gives it."""
        from fastdock.containers.execution import Execution

        size: tuple[int, int] | bool = False
        if self._tty:
            from fastdock.cli.terminal import size_of

            size = size_of(1)
        stdin = None if self._interactive else -3
        relays: dict[int, int] = {}
        streams: list[Any] = [None, None]
        if not self._tty:
            for target in (1, 2):
                if stat.S_ISREG(os.fstat(target).st_mode):  # see Foreground
                    read, write = os.pipe()
                    relays[read], streams[target - 1] = target, write
        try:
            process = Execution(
                self._container, command, stdin=-3 if self._tty else stdin, stdout=-3 if self._tty else streams[0],
                stderr=-3 if self._tty else streams[1], tty=size, **options,
            )  # fmt: skip
        finally:
            for end in streams:
                if end is not None:
                    os.close(end)
        if self._tty:
            self._attend_terminal(process)
        while relays:
            for descriptor in select.select(list(relays), [], [])[0]:
                data = os.read(descriptor, _CHUNK)
                if data:
                    _write_all(relays[descriptor], data)
                else:
                    os.close(descriptor)
                    del relays[descriptor]
        code = process.wait()
        return 128 - code if code < 0 else code

    def _attend_terminal(self, process: Execution) -> None:
        from functools import partial

        from fastdock.cli.terminal import Attended, set_size

        terminal = process.take_terminal()
        detached = False
        with Attended(partial(set_size, terminal), 1, typed=self._interactive):
            try:
                self._copy_terminal(process, terminal)
            except _Detached:
                detached = True
        if detached:
            _write_all(1, b"read escape sequence\n")
            _leave_terminal(terminal)
        os.close(terminal)

    def _copy_terminal(self, process: Execution, terminal: int) -> None:
        inputs = [terminal, process.fileno()] + ([0] if self._interactive else [])
        while True:
            ready = select.select(inputs, [], [])[0]
            if terminal in ready:
                try:
                    data = os.read(terminal, _CHUNK)
                except OSError:  # EIO: the other side is closed by everybody
                    return
                _write_all(1, data)
            elif process.fileno() in ready:
                return
            if 0 in ready:
                data = os.read(0, _CHUNK)
                rest, detached = self._detacher.feed(data)
                _write_all(terminal, rest)
                if detached:
                    raise _Detached
                if not data:
                    inputs.remove(0)
