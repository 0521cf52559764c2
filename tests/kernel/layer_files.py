"""What the tests of layers share: making, describing and stacking directory trees."""

from __future__ import annotations

import ctypes
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastdock import _core

PRIVATE = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True)
class File:
    """All that a layer must keep of a file."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    content: bytes | str | int | None
    attributes: dict[str, bytes] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


def attributes(path: str) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def describe(root: str | Path, *, root_too: bool = False) -> dict[str, File]:
    """Each file below ``root`` by its path, whiteouts included."""
    root = os.fspath(root)
    found: dict[str, File] = {}
    inodes: dict[tuple[int, int], set[str]] = {}

    def look(path: str, name: str) -> None:
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        content: bytes | str | int | None = None
        if kind == stat.S_IFREG:
            content = Path(path).read_bytes()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            content = status.st_rdev
        own = {key: value for key, value in attributes(path).items() if not key.startswith(PRIVATE)}
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            inodes.setdefault((status.st_dev, status.st_ino), set()).add(name)
        mode = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        found[name] = File(kind | mode, (status.st_uid, status.st_gid), status.st_mtime_ns, content, own)
        if kind == stat.S_IFDIR:
            for child in sorted(os.listdir(path)):
                look(f"{path}/{child}", f"{name}/{child}" if name else child)

    look(root, "")
    if not root_too:
        del found[""]
    for names in inodes.values():
        for name in names:
            old = found[name]
            found[name] = File(old.mode, old.owner, old.mtime, old.content, old.attributes, frozenset(names))
    return found


def is_opaque(path: str | Path) -> bool:
    return all(
        attributes(os.fspath(path)).get(f"{kind}.overlay.opaque") == b"y" for kind in ("trusted", "user")
    )


def is_whiteout(path: str | Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def apply(data: bytes, destination: Path, *, piece: int = 1 << 20, **limits: int) -> _core.LayerResult:
    """Unpacks a layer given as bytes into a new directory."""
    destination.mkdir()
    writer = _core.LayerWriter(destination, **limits)
    for start in range(0, len(data), piece):
        writer.write(data[start : start + piece])
    return writer.finish()


def pack(write: object, *arguments: object, **options: object) -> bytes:
    """What one of the core's write_* functions writes."""
    fd = os.memfd_create("layer")
    try:
        write(*arguments, fd, **options)  # type: ignore[operator]
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes | None = None, **fields: object
) -> tuple[tarfile.TarInfo, bytes | None]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    if kind == tarfile.REGTYPE:
        data = data or b""
        info.size = len(data)
    return info, data


def make_tar(
    *entries: tuple[tarfile.TarInfo, bytes | None], form: int = tarfile.PAX_FORMAT, **options: object
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, **options) as tar:  # type: ignore[call-overload]
        for info, data in entries:
            tar.addfile(info, None if data is None else io.BytesIO(data))
    return buffer.getvalue()


_libc = ctypes.CDLL(None, use_errno=True)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_STRING, _CREATE = 1, 6


def _call(number: int, *arguments: object) -> int:
    result = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


@contextmanager
def overlay(*layers: str | Path, upper: Path | None = None, work: Path | None = None) -> Iterator[str]:
    """The layers (top first) as the kernel shows them, through a mount that is attached nowhere."""
    filesystem = _call(_FSOPEN, b"overlay", 1)
    try:
        options = [("lowerdir+", os.fspath(layer)) for layer in layers]
        if upper is not None:
            options += [("upperdir", os.fspath(upper)), ("workdir", os.fspath(work))]
            options += [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")]
        for key, value in options:
            _call(_FSCONFIG, filesystem, _SET_STRING, key.encode(), os.fsencode(value), 0)
        _call(_FSCONFIG, filesystem, _CREATE, None, None, 0)
        mount = _call(_FSMOUNT, filesystem, 1, 0)
    finally:
        os.close(filesystem)
    try:
        yield f"/proc/self/fd/{mount}/."
    finally:
        os.close(mount)
