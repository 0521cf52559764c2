"""Reading the event log (csrc/monitor/events.h): what was, what comes, nothing twice and nothing missed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from fastdock import _core
from fastdock.containers.steps import Steps, Wait, blocking

if TYPE_CHECKING:
    from fastdock.engine import Engine

Event = dict[str, Any]


def read_events(
    engine: Engine, *, since: float | None = None, until: float | None = None, container: str | None = None
) -> Iterator[Mapping[str, Any]]:
    """Events as Docker's API has them, from now on or ``since``; up to ``until``, or for ever.

    Times are seconds since the epoch.  From now on: from the call on, not from the first event that is asked for.
    """
    steps = event_steps(engine, since=since, until=until, container=container)
    first = next(steps)  # opens the file
    assert isinstance(first, Wait)
    return blocking(steps)


def event_steps(
    engine: Engine, *, since: float | None = None, until: float | None = None, container: str | None = None
) -> Steps[Mapping[str, Any]]:
    """The same in steps, of which the first is an empty wait; ``container``: its id, for its events alone."""
    for step in _steps(engine, since, until):
        if isinstance(step, Wait) or container is None or step["Actor"]["ID"] == container:
            yield step


def _steps(engine: Engine, since: float | None, until: float | None) -> Steps[Mapping[str, Any]]:
    reader = _Reader(os.path.join(engine.root, "events"))
    watch = _core.watch_files([engine.root])
    try:
        began = time.time() if since is None else since
        if since is None and not reader.seek_to_end():
            began = 0
        yield Wait((), 0)
        if since is not None:
            yield from _between(reader.older(), began, until)
        while True:
            for event in reader.read():
                when = event["timeNano"] / 1e9
                if until is not None and when > until:
                    return
                if when >= began:
                    yield event
            left = None if until is None else until - time.time()
            if left is not None and left <= 0:
                return
            yield Wait((watch,), left)
            with contextlib.suppress(BlockingIOError):
                os.read(watch, 65536)
    finally:
        os.close(watch)
        reader.close()


def _between(events: Iterator[Event], since: float, until: float | None) -> Iterator[Event]:
    for event in events:
        when = event["timeNano"] / 1e9
        if when >= since and (until is None or when <= until):
            yield event


class _Reader:
    """The newest file, and the next one after it was moved away."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rest = b""
        self._file = self._open()

    def _open(self) -> IO[bytes] | None:
        try:
            return open(self._path, "rb", buffering=0)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def older(self) -> Iterator[Event]:
        """Of the file before, if there is one; opened after the newest, so it is whole."""
        try:
            with open(self._path + ".1", "rb") as file:
                if self._file is not None and os.path.sameopenfile(file.fileno(), self._file.fileno()):
                    return  # it was moved just now
                for line in file:
                    yield json.loads(line)
        except FileNotFoundError:
            return

    def seek_to_end(self) -> bool:
        """False: there is no file yet, and all of it will be new."""
        if self._file is None:
            return False
        self._file.seek(0, os.SEEK_END)
        return True

    def read(self) -> Iterator[Event]:
        """What has come since the last time."""
        while True:
            if self._file is None:
                self._file = self._open()
            if self._file is None:
                return
            moved = self._was_moved()  # asked first: nobody appends to a file after it was moved
            while data := self._file.read(1 << 20):
                lines = (self._rest + data).split(b"\n")
                self._rest = lines.pop()
                for line in lines:
                    yield json.loads(line)
            if not moved:
                return
            self._file.close()
            self._file, self._rest = None, b""

    def _was_moved(self) -> bool:
        assert self._file is not None
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return True
