"""The layers of the built-in image ``host``: what every user of this machine may read, and no more."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator

from fastdock._errors import FastdockError
from fastdock.builtin_images import SHOWN

_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EMPTY = {
    "dev": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555, "root": 0o700,
    "run": 0o755, "run/lock": 0o1777, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "var": 0o755,
    "var/cache": 0o755, "var/lib": 0o755, "var/log": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_VAR_LINKS = {"var/run": "/run", "var/lock": "/run/lock"}
# Readable by everybody, and still nobody else's business or useless elsewhere; the container gets its own.
_LEFT_OUT = ("ssh", "ssl/private", "hostname", "machine-id", "mtab", "resolv.conf", "fstab", "sudoers", "sudoers.d",
             "fastdock")  # fmt: skip
_WHITEOUT = stat.S_IFCHR  # overlayfs: a character device 0:0 hides what is below


def make_host(directory: str) -> None:
    """Makes the layers beside their place and renames them, so that nobody sees half of them."""
    unfinished = f"{directory}.{os.getpid()}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    mask = os.umask(0)
    try:
        root = os.path.join(unfinished, "root")
        os.makedirs(root, mode=0o755)
        for name, mode in _EMPTY.items():
            os.mkdir(os.path.join(root, name), mode)
        for name, target in _VAR_LINKS.items():
            os.symlink(target, os.path.join(root, name))
        for name in _LINKS:
            _show_top(name, root)
        _copy_etc("/etc", os.path.join(root, "etc"))
        for path in SHOWN:
            if os.path.isdir(path):
                _hide_unreadable(path, os.path.join(unfinished, path.strip("/")))
        try:
            os.rename(unfinished, directory)
        except OSError:  # another process was first
            shutil.rmtree(unfinished, ignore_errors=True)
            if not os.path.isdir(directory):
                raise
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise FastdockError(
            f"cannot prepare the image 'host': {error}", errno=error.errno or 0, path=directory
        ) from error
    finally:
        os.umask(mask)


def _show_top(name: str, root: str) -> None:
    """/bin and friends: links into /usr on a merged system; without that there is nothing to link."""
    if os.path.islink(f"/{name}"):
        os.symlink(os.readlink(f"/{name}"), os.path.join(root, name))
    elif os.path.isdir(f"/{name}"):
        os.symlink(f"usr/{name}", os.path.join(root, name))


def _copy_etc(source: str, target: str, inside: str = "") -> None:
    """Copies what everybody may read."""
    os.mkdir(target, 0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{inside}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            if path in _LEFT_OUT:
                continue
            to = os.path.join(target, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), to)
            elif entry.is_dir() and status.st_mode & 0o005 == 0o005:
                _copy_etc(entry.path, to, path + "/")
            elif entry.is_file() and status.st_mode & 0o004:
                shutil.copyfile(entry.path, to)
                os.chmod(to, status.st_mode & 0o755)


def _hide_unreadable(path: str, layer: str) -> None:
    """A layer of whiteouts over what not everybody may read below ``path``."""
    os.mkdir(layer, 0o755)
    for hidden in _unreadable(path):
        inside = os.path.relpath(hidden, path)
        parent = os.path.join(layer, os.path.dirname(inside))
        _make_parents(path, layer, os.path.dirname(inside))
        os.mknod(os.path.join(parent, os.path.basename(inside)), _WHITEOUT, os.makedev(0, 0))


def _make_parents(path: str, layer: str, inside: str) -> None:
    """The same directories in the layer, with their attributes: the topmost layer's count."""
    at, below = layer, path
    for name in inside.split("/") if inside else ():
        at, below = os.path.join(at, name), os.path.join(below, name)
        if not os.path.isdir(at):
            os.mkdir(at)
            shutil.copystat(below, at)
            status = os.stat(below)
            try:
                os.chown(at, status.st_uid, status.st_gid)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a user with no ids but its own: then it is that user's
                    raise


def _unreadable(path: str) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                continue
            if entry.is_dir(follow_symlinks=False):
                if status.st_mode & 0o005 != 0o005:
                    yield entry.path
                else:
                    yield from _unreadable(entry.path)
            elif not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o004:
                yield entry.path


def remove_old(current: str) -> None:
    """Earlier states of the machine, unless a container may still use them (a day)."""
    import time

    parent = os.path.dirname(current)
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if not name.startswith("builtin-host-") or path == current:
            continue
        try:
            if os.stat(path).st_ctime < time.time() - 86400:
                shutil.rmtree(path)
        except OSError:
            pass
