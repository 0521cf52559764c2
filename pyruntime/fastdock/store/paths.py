"""Where fastdock keeps its state, and the directories' permissions.

Everything below the state directory may belong to images (set-uid programs, device nodes), so no other
user of the machine may even look into it: 0700 all the way (CVE-2021-41091).
"""

from __future__ import annotations

import os
import stat

from fastdock._errors import FastdockError


def default_root() -> str:
    """The state directory: ``FASTDOCK_ROOT``, ``/var/lib/fastdock``, or the user's data directory."""
    if root := os.environ.get("FASTDOCK_ROOT"):
        return root
    if os.geteuid() == 0:
        return "/var/lib/fastdock"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "fastdock")


def run_directory(root: str) -> str:
    """The directory on tmpfs for what is running in the state directory ``root``; created 0700.

    The default root has ``/run/fastdock`` itself.  Another root gets a directory named after its inode:
    short, because sockets in it must fit the 108 bytes of sun_path (unix(7)).
    """
    if os.geteuid() == 0:
        base, main = "/run/fastdock", "/var/lib/fastdock"
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/fastdock-{os.geteuid()}"
        base, main = os.path.join(runtime, "fastdock"), ""
        make_private(runtime) if runtime.startswith("/tmp/") else None
    make_private(base)
    if root == main:
        return base
    status = os.stat(root)
    path = os.path.join(base, f"{status.st_dev:x}-{status.st_ino:x}")
    make_private(path)
    return path


def is_marked(root: str, directory: str) -> bool:
    """Whether the run directory says whose it is (vanished.py)."""
    try:
        return os.readlink(os.path.join(directory, "root")) == root
    except OSError:
        return False


def make_private(path: str) -> None:
    """Creates ``path`` (and missing parents) for this user only, or checks that it is.

    Raises FastdockError where it is a symbolic link, belongs to somebody else, or cannot be made or closed to others.
    """
    try:
        _make_private(path)
    except OSError as error:
        raise FastdockError(
            f"cannot make the state directory {path}: {error.strerror}",
            errno=error.errno or 0,
            path=path,
            hint="run fastdock as root, or choose another place with --root",
        ) from error


def _make_private(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # another process was first
            status = os.lstat(path)
        else:
            return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise FastdockError(
            f"{path} is not a directory of this user",
            path=path,
            hint="fastdock keeps state there: remove it, or choose another place with --root",
        )
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)
