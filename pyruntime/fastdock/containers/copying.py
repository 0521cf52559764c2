"""A container's files from outside, whether it runs or not: tar streams both ways, and the usual calls on top.

Every path is resolved by the kernel as if the container's root were ours (openat2, RESOLVE_IN_ROOT, no magic
links), and everything is made, read and written relative to the descriptor of the directory that was found: a
container that exchanges links meanwhile leads nobody out of it (CVE-2018-15664), and no program or library of
the container is run (CVE-2019-14271).
"""

from __future__ import annotations

import copy
import errno
import os
import posixpath
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

from fastdock import _core
from fastdock._errors import ContainerNotRunning, FastdockError, NotFound
from fastdock.containers.tar_trees import DIRECTORY, Place, TreeReader, TreeWriter

if TYPE_CHECKING:
    from fastdock.containers.container import Container

_T = TypeVar("_T")


class Files:
    """``container.files``.  Paths are absolute; "." and ".." mean what they mean inside.

    FileNotFoundError and friends as from :func:`open`; NotFound and FastdockError say what is wrong with a copy.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._first = container.first_id

    # -- trees ---------------------------------------------------------------------------------------------

    def get_archive(self, path: str, output: IO[bytes]) -> None:
        """Writes a tar of the file or tree, as ``docker cp CONTAINER:path -``.  NotFound."""
        with (
            self._place(path) as place,
            tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            name = posixpath.basename(path.rstrip("/")) or "/"
            if name in (".", ".."):
                name = "."
            reader, (parent, last) = TreeReader(tar, self._first), _split(place.path)
            try:
                directory = _core.open_in_root(place.root, parent, DIRECTORY)
            except OSError as error:
                raise self._not_found(path) from error
            try:
                if last in ("", ".", "..") or path.endswith("/"):
                    opened = _core.open_in_root(place.root, place.path, DIRECTORY)
                    reader.add_directory(opened, name.strip("/") or ".")
                else:
                    reader.add(directory, last, name)
            except (FileNotFoundError, NotADirectoryError):
                raise self._not_found(path) from None
            finally:
                os.close(directory)

    def export(self, output: IO[bytes]) -> None:
        """Writes a tar of the whole file system, as ``docker export``: without what is mounted in it.

        FastdockError where a file changes while it is read.
        """
        from fastdock.store.ingest import piped

        with self._place("/") as place:
            root = f"/proc/self/fd/{place.root}"
            with piped(
                lambda fd: _core.write_tar(root, fd, uid_offset=self._first, gid_offset=self._first)
            ) as chunks:
                for chunk in chunks:
                    output.write(chunk)

    def put_archive(self, path: str, source: IO[bytes], *, keep_owners: bool = True) -> None:
        """Unpacks a tar into the directory ``path``, as ``docker cp - CONTAINER:path``.  NotFound.

        Without ``keep_owners`` everything belongs to the container's root.
        """
        with self._place(path) as place:
            self._in_thread(lambda: self._extract(place, source, keep_owners))

    def get(self, source: str, destination: str | os.PathLike[str], *, follow: bool = False) -> None:
        """Copies out, with docker cp's rules: into an existing directory, or to the new name.

        ``follow``: what a link leads to (in the container), instead of the link.
        """
        if follow:
            source = self._follow(source)
        destination = os.fspath(destination)
        name = posixpath.basename(source.rstrip("/")) or "."
        contents = source.endswith("/.") or name in (".", "..")
        into, rename = destination, None
        if not os.path.isdir(destination):
            into, rename = os.path.split(destination.rstrip("/"))
            if destination.endswith("/") and not os.path.isdir(destination):
                raise NotFound(f"the directory {destination} does not exist")
            if not os.path.isdir(into or "."):
                raise NotFound(f"the directory {into} does not exist")
        if contents and rename is None:
            rename = "."
        buffer = _Spool()
        try:
            self.get_archive(source, buffer.file)
            buffer.rewind()
            _unpack_here(buffer.file, into or ".", name if not contents else ".", rename)
        finally:
            buffer.close()

    def _follow(self, path: str) -> str:
        for _ in range(40):  # MAXSYMLINKS, as the kernel
            with self._place(path) as place:
                parent, last = _split(place.path)
                directory = _core.open_in_root(place.root, parent, DIRECTORY)
                try:
                    target = os.readlink(last, dir_fd=directory)
                except OSError:  # EINVAL: no link
                    return path
                finally:
                    os.close(directory)
            path = posixpath.join(posixpath.dirname(path.rstrip("/")), target)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def put(self, source: str | os.PathLike[str], destination: str, *, keep_owners: bool = False) -> None:
        """Copies in, with docker cp's rules."""
        source = os.fspath(source)
        if not os.path.lexists(source):
            raise NotFound(f"{source}: no such file or directory")
        contents = source.endswith("/.")
        name = os.path.basename(os.path.abspath(source))
        kind = self._kind(destination)
        if kind == "directory":
            into, arcname = destination, ("." if contents else name)
        elif kind == "" and destination.endswith("/"):
            raise NotFound(f"the directory {destination} does not exist in the container")
        elif kind == "file" and os.path.isdir(source):
            raise FastdockError(f"cannot copy a directory to the file {destination}")
        else:
            into, arcname = posixpath.split(destination.rstrip("/"))
        buffer = _Spool()
        try:
            with tarfile.open(fileobj=buffer.file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                tar.add(source, arcname or ".")
            buffer.rewind()
            self.put_archive(into or "/", buffer.file, keep_owners=keep_owners)
        finally:
            buffer.close()

    def _kind(self, path: str) -> str:
        try:
            mode = self.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return "directory" if stat.S_ISDIR(mode) else "file"

    # -- single files --------------------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result:
        """As :func:`os.stat`, with the host's ids."""
        with self._place(path) as place:
            descriptor = _core.open_in_root(place.root, place.path, os.O_PATH)
            try:
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)

    def read_bytes(self, path: str) -> bytes:
        with self.open(path, "rb") as file:
            return bytes(file.read())

    def write_bytes(self, path: str, data: bytes) -> None:
        """Replaces or makes the file; a new one belongs to the container's root, mode 0644."""
        with self.open(path, "wb") as file:
            file.write(data)

    def open(self, path: str, mode: str = "r", **options: Any) -> IO[Any]:
        """As :func:`open`.  What may wait (a FIFO) or is a device is refused: IsADirectoryError, OSError."""
        new = os.O_WRONLY | os.O_CREAT
        flags = {"r": os.O_RDONLY, "w": new | os.O_TRUNC, "a": new | os.O_APPEND, "x": new | os.O_EXCL}.get(
            mode[:1]
        )
        if flags is None:
            raise ValueError(f"invalid mode: {mode!r}")
        if "+" in mode:
            flags = flags & ~os.O_WRONLY | os.O_RDWR
        with self._place(path) as place:
            # Truncated only when it is known to be a file: what opening does to a device, nobody wants.
            wanted = (flags & ~os.O_TRUNC) | os.O_NONBLOCK | os.O_NOCTTY

            def open_it() -> int:
                return _core.open_in_root(place.root, place.path, wanted, 0o644 if flags & os.O_CREAT else 0)

            descriptor = self._in_thread(open_it) if flags & os.O_CREAT else open_it()
        try:
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            if not stat.S_ISREG(kind):
                raise OSError(errno.EINVAL, "not a regular file", path)
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
            os.set_blocking(descriptor, True)
            return open(descriptor, mode.replace("x", "w"), **options)
        except BaseException:
            os.close(descriptor)
            raise

    def listdir(self, path: str = "/") -> list[str]:
        with self._place(path) as place:
            descriptor = _core.open_in_root(place.root, place.path, DIRECTORY)
            try:
                return os.listdir(descriptor)
            finally:
                os.close(descriptor)

    def _extract(self, place: Place, source: IO[bytes], keep_owners: bool) -> None:
        try:
            top = _core.open_in_root(place.root, place.path, DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._not_found(place.path) from error
        try:
            TreeWriter(place, top, self._first, keep_owners).extract(source)
        finally:
            os.close(top)

    # -- roots ---------------------------------------------------------------------------------------------

    @contextmanager
    def _place(self, path: str) -> Iterator[Place]:
        if "\0" in path:
            raise ValueError("embedded null byte")
        state = self._container.state
        if state.pid:
            root, below = self._running_root(state.pid), path
        else:
            root, below = self._stopped_root(path)
        try:
            yield Place(root, below if below.startswith("/") else "/" + below)
        finally:
            os.close(root)

    def _running_root(self, pid: int) -> int:
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise ContainerNotRunning(f"container {self._container.name} has just ended") from None
        # While the monitor says that this is its process, the number has not gone to another.
        if self._container.state.pid != pid:
            os.close(root)
            raise ContainerNotRunning(f"container {self._container.name} has just ended")
        return root

    def _stopped_root(self, path: str) -> tuple[int, str]:
        """The mount that the path is on, put together from what the container has on disk."""
        from fastdock.containers.creation import plan_of_record

        plan = plan_of_record(self._container._containers, self._container.record).plan
        first = self._first if self._container.record.ids >= 0 else -1
        clean = posixpath.normpath("/" + path.lstrip("/"))  # POSIX: two slashes stay two
        keep = "/" if path.endswith("/") else ""
        assert plan.root is not None
        found, best = plan.root, "/"
        for mount in plan.mounts:
            at = mount.destination
            if (
                mount.type in ("bind", "overlay")
                and (clean + "/").startswith(at + "/")
                and len(at) >= len(best)
            ):
                found, best = mount, at
        below = "/" + clean[len(best) :].lstrip("/") + keep
        if found.type == "overlay":
            return _core.open_view(list(found.layers), found.directory, first), below
        if not os.path.isdir(found.source):
            source, name = os.path.split(found.source)
            return os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), "/" + name
        return os.open(found.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), below

    def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Runs ``work`` in a thread whose files belong to the container's root (csrc/monitor/connect.h)."""
        if self._first == 0:
            return work()
        outcome: list[Any] = [None, None]

        def run() -> None:
            try:
                _core.own_files_as(self._first, self._first)
                outcome[0] = work()
            except BaseException as error:
                outcome[1] = error

        thread = threading.Thread(target=run, name="fastdock-files")
        thread.start()
        thread.join()
        if outcome[1] is not None:
            raise outcome[1]
        result: _T = outcome[0]
        return result

    def _not_found(self, path: str) -> NotFound:
        return NotFound(f"could not find the file {path} in container {self._container.name}", path=path)


def _split(path: str) -> tuple[str, str]:
    parent, last = posixpath.split(path.rstrip("/"))
    return parent or "/", last


class _Spool:
    """A temporary file without a name."""

    def __init__(self) -> None:
        import tempfile

        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def rewind(self) -> None:
        self.file.seek(0)

    def close(self) -> None:
        self.file.close()


def _below(entry: tarfile.TarInfo, destination: str) -> tarfile.TarInfo:
    """The entry as it may be made below a directory of the host: nowhere else, and with no special rights."""
    top = os.path.realpath(destination)
    entry.name = entry.name.lstrip("/")
    for name in (entry.name, entry.linkname) if entry.islnk() else (entry.name,):
        if os.path.isabs(name) or os.path.commonpath([top, os.path.realpath(os.path.join(top, name))]) != top:
            raise FastdockError(f"{name}: the container's file would be outside of {destination}")
    entry.mode &= ~(stat.S_ISUID | stat.S_ISGID)  # it becomes the caller's
    return entry


def _unpack_here(archive: IO[bytes], into: str, top: str, rename: str | None) -> None:
    """Unpacks a tar that came from a container, so from an enemy, into a directory of the host."""

    def renamed(entry: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        name = entry.name.rstrip("/")
        if rename is not None:
            rest = name[len(top) :].lstrip("/") if name == top or name.startswith(top + "/") else name
            name = posixpath.join(rename, rest) if rest else rename
        entry = copy.copy(entry)
        entry.name, entry.uid, entry.gid = name, os.geteuid(), os.getegid()
        # As docker cp: links are made as they are, and never followed when further entries are written.
        return entry if entry.issym() else _below(entry, destination)

    with tarfile.open(fileobj=archive, mode="r|") as tar:
        # What PEP 706's filters check is checked here: Debian 12's Python has none yet.
        tar.extraction_filter = staticmethod(lambda entry, _: entry)
        links: set[str] = set()
        for entry in tar:
            wanted = renamed(entry, into)
            if wanted is None:
                continue
            path = posixpath.normpath(wanted.name)
            if path.startswith("..") or any(path.startswith(link + "/") for link in links):
                raise FastdockError(f"{wanted.name}: the container's link leads out of the copy")
            if wanted.issym():
                links.add(path)
                target = os.path.join(into, path)
                if os.path.lexists(target) and not os.path.isdir(target):
                    os.unlink(target)
                os.symlink(wanted.linkname, target)
                continue
            tar.extract(wanted, into, numeric_owner=True)
