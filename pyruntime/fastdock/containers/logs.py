"""Reading a container's log: json-file lines, rotated and compressed ones too, following it to its end."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack, contextmanager

from fastdock import _core, _streams
from fastdock._errors import ContainerNotRunning, SpecError
from fastdock._streams import LogEntry
from fastdock.containers import control
from fastdock.containers.steps import Steps, Wait

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from fastdock.containers.container import Container

_CHUNK = 1 << 20
__all__ = ["LogEntry", "read_logs"]


def read_logs(
    container: Container,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    stdout: bool = True,
    stderr: bool = True,
) -> Steps[LogEntry]:
    """:meth:`Container.logs`, in steps."""
    check_readable(container)
    path = container._containers.log_path(container.id)
    blocks: Steps[bytes] | Iterator[bytes] = _follow(container, path, tail) if follow else _blocks(path, tail)
    for block in blocks:
        if isinstance(block, Wait):
            yield block
            continue
        for entry in _streams.parse_log(block):
            if not (stdout if entry.stream == 1 else stderr) or (since is not None and entry.time < since):
                continue
            if until is not None and entry.time > until:
                if follow:
                    return
                continue
            yield entry


def check_readable(container: Container) -> None:
    """SpecError for a container whose output is not kept."""
    if container.is_foreground:
        raise SpecError(
            "nothing was recorded: the container runs in the foreground with --rm",
            hint="give it a name, or run it with -d",
        )
    if container.record.document["settings"].get("log_driver") == "none":
        raise SpecError("configured logging driver does not support reading: it is none")


def log_files(path: str) -> list[str]:
    """The oldest first.  While they are rotated a number may be missing, and the last one be there packed and plain."""
    directory, name = os.path.split(path)
    rotated: dict[int, str] = {}
    for found in os.listdir(directory):
        suffix = found.removeprefix(name + ".")
        number = suffix.removesuffix(".gz")
        if suffix != found and number.isdecimal() and (suffix == number or int(number) not in rotated):
            rotated[int(number)] = found
    names = [rotated[number] for number in sorted(rotated, reverse=True)]
    return [os.path.join(directory, found) for found in names] + ([path] if os.path.exists(path) else [])


@contextmanager
def _opened(path: str) -> Iterator[list[tuple[str, IO[bytes]]]]:
    """All files of the log with their names, as they were at one moment, the oldest first.

    A file that is rotated or compressed between the look and the open would be missed, or read twice.
    """
    while True:
        with ExitStack() as stack:
            files = _open_unchanged(path, stack)
            if files is not None:
                yield files
                return


def _open_unchanged(path: str, stack: ExitStack) -> list[tuple[str, IO[bytes]]] | None:
    names = log_files(path)
    try:
        files = [(name, stack.enter_context(_open(name))) for name in names]
        inodes = [os.fstat(file.fileno()).st_ino for _, file in files]
        unchanged = names == log_files(path) and inodes == [os.stat(name).st_ino for name in names]
    except FileNotFoundError:
        return None
    return files if unchanged else None


def raw_blocks(path: str) -> Iterator[bytes]:
    """All of the log, in blocks of whole lines."""
    with _opened(path) as files:
        for _, stream in files:
            yield from _lines_of(stream)


def _open(path: str) -> IO[bytes]:
    if path.endswith(".gz"):
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    return open(path, "rb", buffering=0)


def _lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(_CHUNK):
        end = data.rfind(b"\n") + 1
        if end == 0:
            rest += data
            continue
        yield rest + data[:end] if rest else data[:end]
        rest = data[end:]


def _blocks(path: str, tail: int | None) -> Iterator[bytes]:
    if tail is None:
        yield from raw_blocks(path)
    elif tail > 0:
        yield from _last_lines(path, tail)


def _last_lines(path: str, count: int, limit: int | None = None) -> list[bytes]:
    """Blocks that hold the last ``count`` entries, read from the end (of the newest file: from ``limit``)."""
    found: list[bytes] = []
    with _opened(path) as files:
        for name, file in reversed(files):
            if name.endswith(".gz"):
                data = file.read()
            else:
                end = os.fstat(file.fileno()).st_size
                data = _tail_of(file, min(end, limit) if limit is not None and name == path else end, count)
            count, block = _keep_last(data, count)
            found.append(block)
            if count <= 0:
                break
    found.reverse()
    return found


def _tail_of(file: IO[bytes], end: int, count: int) -> bytes:
    """What is before ``end``, as far back as ``count`` lines are."""
    data = b""
    while end > 0 and data.count(b"\n") <= count:
        start = max(0, end - _CHUNK)
        data = os.pread(file.fileno(), end - start, start) + data
        end = start
    return data


def _keep_last(data: bytes, count: int) -> tuple[int, bytes]:
    """How many entries are still wanted, and the last ones of ``data``."""
    data = data[: data.rfind(b"\n") + 1]
    at = len(data)
    while count > 0 and at > 0:
        at = data.rfind(b"\n", 0, at - 1) + 1
        count -= 1
    return count, data[at:]


def _follow(container: Container, path: str, tail: int | None) -> Steps[bytes]:
    """What is there, then what comes, until the container has ended."""
    watch = _core.watch_files([container.directory])
    connection = _connection(container)
    follower = Follower(path)
    try:
        if (file := follower.open()) is not None:
            size = _whole_lines(file, os.fstat(file.fileno()).st_size)
            yield from _until(path, tail, size, file)
            file.seek(size)
        while True:
            ended = connection is None
            yield from follower.read()
            if ended:
                return
            assert connection is not None
            both = (watch, connection.fileno())
            yield Wait(both)
            ready = select.select(both, [], [], 0)[0]
            if watch in ready:
                os.read(watch, 65536)
            if both[1] in ready and connection.receive() is None:
                connection.close()
                connection = None
    finally:
        os.close(watch)
        follower.close()
        if connection is not None:
            connection.close()


def _connection(container: Container) -> control.Control | None:
    try:
        return container._connect()
    except ContainerNotRunning:
        return None


def _whole_lines(file: IO[bytes], size: int) -> int:
    """The last end of a line at or before ``size``."""
    at = size
    while at > 0:
        start = max(0, at - 65536)
        data = os.pread(file.fileno(), at - start, start)
        if (end := data.rfind(b"\n")) >= 0:
            return start + end + 1
        at = start
    return 0


def _until(path: str, tail: int | None, size: int, file: IO[bytes]) -> Iterator[bytes]:
    """The older files, and of the newest what is before ``size``."""
    if tail is not None:
        yield from _last_lines(path, tail, size) if tail > 0 else ()
        return
    with _opened(path) as files:
        mine = os.fstat(file.fileno()).st_ino
        for _, older in files:
            if os.fstat(older.fileno()).st_ino == mine:
                break
            yield from _lines_of(older)
    at = 0
    while at < size:
        data = os.pread(file.fileno(), min(_CHUNK, size - at), at)
        end = data.rfind(b"\n") + 1
        if end == 0:
            return
        yield data[:end]
        at += end


class Follower:
    """Reads on in the newest file, and goes over to the next when it was rotated."""

    def __init__(self, path: str) -> None:
        self._path, self._rest = path, b""
        self._file: IO[bytes] | None = None
        self._older: list[str] = []  # rotated since the last look, the oldest last

    def open(self) -> IO[bytes] | None:
        """The newest file; None: there is none yet."""
        if self._file is None:
            try:
                self._file = _open(self._older.pop()) if self._older else _open(self._path)
            except FileNotFoundError:
                return None
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[bytes]:
        while True:
            file = self.open()
            if file is None:
                return
            while data := file.read(_CHUNK):
                end = data.rfind(b"\n") + 1
                if end:
                    yield self._rest + data[:end]
                    self._rest = data[end:]
                else:
                    self._rest += data
            if not self._older and self._is_newest():
                return
            self.close()

    def _is_newest(self) -> bool:
        """False: ``_older`` has the files between this one and the newest, in which a quick writer already is."""
        assert self._file is not None
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        mine = os.fstat(self._file.fileno())
        if status.st_ino != mine.st_ino:
            self._older = self._newer_than(mine.st_ino)
        if status.st_ino == mine.st_ino and status.st_size < self._file.tell():  # max-file=1: it was emptied
            self._file.seek(0)
            return False
        return status.st_ino == mine.st_ino

    def _newer_than(self, inode: int) -> list[str]:
        """Rotated files, the oldest last.  Compressed ones have another inode: those cannot be told from read ones."""
        newer: list[str] = []
        for path in reversed(log_files(self._path)[:-1]):
            try:
                if os.stat(path).st_ino == inode:
                    return newer
            except FileNotFoundError:
                continue
            newer.append(path)
        return []
