"""A tree below a container's root, into a tar and out of one.

Every path is resolved by the kernel as if the container's root were ours (openat2, RESOLVE_IN_ROOT, no magic
links), and everything is made, read and written relative to the descriptor of the directory that was found: a
container that exchanges links meanwhile leads nobody out of it (CVE-2018-15664).
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import stat
import tarfile
from typing import IO, NamedTuple

from fastdock import _core
from fastdock._errors import FastdockError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


class Place(NamedTuple):
    """A root directory and a path below it."""

    root: int
    path: str


class TreeReader:
    """Puts files into a tar.  Their owners' ids are the container's own there, which begin at ``first`` outside."""

    def __init__(self, tar: tarfile.TarFile, first: int) -> None:
        self._tar, self._first = tar, first

    def add(self, directory: int, last: str, name: str) -> None:
        """One entry of an open directory; no link is followed."""
        status = os.stat(last, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            child = os.open(last, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            self.add_directory(child, name)
            return
        entry = self._entry(name, status)
        if stat.S_ISLNK(status.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(last, dir_fd=directory)
        elif stat.S_ISREG(status.st_mode):
            child = os.open(
                last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
            )
            with open(child, "rb") as file:
                now = os.fstat(child)
                if not stat.S_ISREG(now.st_mode):
                    raise FastdockError(f"{name} changed while it was being read")
                entry.size = now.st_size
                self._tar.addfile(entry, _Exactly(file, now.st_size))
            return
        elif stat.S_ISFIFO(status.st_mode):
            entry.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            entry.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        else:
            return  # sockets have no place in a tar
        self._tar.addfile(entry)

    def add_directory(self, descriptor: int, name: str) -> None:
        try:
            entry = self._entry(name, os.fstat(descriptor))
            entry.type = tarfile.DIRTYPE
            self._tar.addfile(entry)
            for child in sorted(os.listdir(descriptor)):
                try:
                    self.add(descriptor, child, posixpath.join(name, child))
                except FileNotFoundError:
                    continue  # it went meanwhile
        finally:
            os.close(descriptor)

    def _entry(self, name: str, status: os.stat_result) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        entry.uid, entry.gid = self._inside(status.st_uid), self._inside(status.st_gid)
        return entry

    def _inside(self, number: int) -> int:
        return number - self._first if self._first <= number < self._first + _core.IDS_PER_RANGE else number


class TreeWriter:
    """Makes what a tar says below ``place``.  The container's ids begin at ``first`` outside.

    Without ``keep_owners`` everything belongs to the container's root.
    """

    def __init__(self, place: Place, top: int, first: int, keep_owners: bool) -> None:
        """``top``: the open directory that ``place`` is."""
        self._place, self._top, self._first, self._keep_owners = place, top, first, keep_owners

    def extract(self, source: IO[bytes]) -> None:
        """FastdockError: it is not a tar."""
        try:
            with tarfile.open(fileobj=source, mode="r|*") as tar:
                for entry in tar:
                    self._entry(tar, entry)
        except tarfile.TarError as error:
            raise FastdockError(f"not a tar archive, or a damaged one: {error}") from None

    def _entry(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = posixpath.normpath("/" + entry.name).lstrip("/")
        owner = (entry.uid, entry.gid) if self._keep_owners else (0, 0)
        owner = (self._first + owner[0], self._first + owner[1])
        if not path:
            return  # the directory itself, which is there
        parent_path, last = posixpath.split(path)
        parent = self._make_parents(parent_path)
        try:
            if entry.isdir():
                _make_directory(parent, last, owner, entry.mode)
                return
            _clear(parent, last)
            if entry.isreg():
                _write_file(tar.extractfile(entry), parent, last, owner, entry)
            elif entry.issym():
                os.symlink(entry.linkname, last, dir_fd=parent)
                os.chown(last, *owner, dir_fd=parent, follow_symlinks=False)
            elif entry.islnk():
                self._link(entry.linkname, parent, last)
            elif entry.isfifo() or entry.ischr() or entry.isblk():
                kind = stat.S_IFIFO if entry.isfifo() else stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
                number = os.makedev(entry.devmajor, entry.devminor)
                os.mknod(last, kind | stat.S_IMODE(entry.mode), number, dir_fd=parent)
                os.chown(last, *owner, dir_fd=parent)
        finally:
            os.close(parent)

    def _make_parents(self, path: str) -> int:
        """The directory ``path`` below the destination; its links lead where they lead in the container."""
        if not path:
            return os.dup(self._top)
        whole = posixpath.join(self._place.path, path)
        try:
            return _core.open_in_root(self._place.root, whole, DIRECTORY)
        except FileNotFoundError:
            parent = self._make_parents(posixpath.dirname(path))
            try:
                _make_directory(parent, posixpath.basename(path), (self._first, self._first), 0o755)
            except FileExistsError:
                raise FastdockError(f"{whole}: a link there leads nowhere in the container") from None
            finally:
                os.close(parent)
            return _core.open_in_root(self._place.root, whole, DIRECTORY)

    def _link(self, target: str, parent: int, last: str) -> None:
        path = posixpath.join(self._place.path, posixpath.normpath("/" + target).lstrip("/"))
        directory, name = posixpath.split(path)
        descriptor = _core.open_in_root(self._place.root, directory, DIRECTORY)
        try:
            os.link(name, last, src_dir_fd=descriptor, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(descriptor)


def _make_directory(parent: int, name: str, owner: tuple[int, int], mode: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return
        raise
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    descriptor = os.open(name, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchmod(descriptor, stat.S_IMODE(mode))
    finally:
        os.close(descriptor)


def _clear(parent: int, name: str) -> None:
    """A file or link makes place for the new one; a directory does not."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass


def _write_file(
    content: IO[bytes] | None, parent: int, name: str, owner: tuple[int, int], entry: tarfile.TarInfo
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        if content is not None:
            shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), stat.S_IMODE(entry.mode))
        os.utime(file.fileno(), (entry.mtime, entry.mtime))


class _Exactly(io.RawIOBase):
    """As many bytes as the header says, whatever becomes of the file: cut, or filled with zeros."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        data += bytes(wanted - len(data))
        self._left -= wanted
        return data
