"""Copying trees between directories that nobody else writes to: attributes and links as they are."""

from __future__ import annotations

import os
import shutil
import stat


def copy_tree(source: int, destination: str) -> None:
    """Everything below the directory ``source`` (a descriptor), and its own attributes, to ``destination``.

    No link is followed, on either side; hard links stay hard links.
    """
    links: dict[tuple[int, int], str] = {}
    _copy_directory(source, destination, links)


def _copy_directory(source: int, destination: str, links: dict[tuple[int, int], str]) -> None:
    with os.scandir(source) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        path = os.path.join(destination, name)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(path, 0o700)
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            try:
                _copy_directory(child, path, links)
            finally:
                os.close(child)
            continue
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in links:
            os.link(links[key], path, follow_symlinks=False)
            continue
        links[key] = path
        _copy_entry(source, name, status, path)
    copy_attributes(source, os.fstat(source), destination)


def _copy_entry(source: int, name: str, status: os.stat_result, path: str) -> None:
    if stat.S_ISREG(status.st_mode):
        child = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        with open(child, "rb") as reader, open(path, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            copy_attributes(reader.fileno(), status, path)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), path)
        os.lchown(path, status.st_uid, status.st_gid)
    elif stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode) or status.st_rdev:
        os.mknod(path, status.st_mode, status.st_rdev)
        os.chown(path, status.st_uid, status.st_gid)


def copy_attributes(source: int, status: os.stat_result, path: str) -> None:
    """Owner, mode, extended attributes and times."""
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(path, name, os.getxattr(source, name))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
