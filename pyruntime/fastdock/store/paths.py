"""Where fastdock keeps its state, and the directories' permissions.

Everything below the state directory may belong to images (set-uid programs, device nodes), so no other
user of the machine may even look into it: 0700 all the way (CVE-2021-41091).
"""

from __future__ import annotations

import os
import stat

from fastdock._errors import FastdockError

ROOTLESS = "FASTDOCK_ROOTLESS"
"""Set by ``fastdock.rootless.enter``: ``WAY:RUN_DIRECTORY``, where WAY is pasta, slirp4netns or empty."""

ROOTLESS_REASON = "FASTDOCK_ROOTLESS_REASON"
"""Set beside it: why there is no way out."""


def is_rootless() -> bool:
    """Whether this process has entered the namespaces of an ordinary user."""
    return ROOTLESS in os.environ


def way_out() -> str:
    """What joins the rootless network namespace to the host's: pasta, slirp4netns, or "" where none was entered."""
    return os.environ.get(ROOTLESS, "").partition(":")[0]


def default_root() -> str:
    """The state directory: ``FASTDOCK_ROOT``, ``/var/lib/fastdock``, or the user's data directory."""
    if root := os.environ.get("FASTDOCK_ROOT"):
        return root
    return main_root()


def main_root() -> str:
    """The state directory of who chooses none."""
    if os.geteuid() == 0 and not is_rootless():
        return "/var/lib/fastdock"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "fastdock")


def run_directory(root: str) -> str:
    """The directory on tmpfs for what is running in the state directory ``root``; created 0700.

    The default root has ``/run/fastdock`` itself.  Another root gets a directory named after its inode:
    short, because sockets in it must fit the 108 bytes of sun_path (unix(7)).
    """
    if is_rootless():
        base = os.environ[ROOTLESS].partition(":")[2]
    else:
        base = "/run/fastdock" if os.geteuid() == 0 else user_run_directory()
    make_private(base)
    if root == main_root():
        return base
    status = os.stat(root)
    path = os.path.join(base, f"{status.st_dev:x}-{status.st_ino:x}")
    make_private(path)
    return path


def user_run_directory() -> str:
    """An ordinary user's place for what is running: below ``XDG_RUNTIME_DIR``, ``/run/user/UID``, or ``/tmp``.

    Raises FastdockError where somebody else could change what is in it.
    """
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    if "XDG_RUNTIME_DIR" not in os.environ and not os.path.isdir(runtime):
        runtime = f"/tmp/fastdock-{uid}"  # sticky: what is ours there, nobody else renames
        make_private(runtime)
    try:
        status = os.stat(runtime)
    except OSError as error:
        raise FastdockError(
            f"cannot use XDG_RUNTIME_DIR={runtime}: {error.strerror}", errno=error.errno or 0, path=runtime,
            hint="log in anew, or unset it",
        ) from error  # fmt: skip
    if status.st_uid != uid or status.st_mode & 0o022:
        raise FastdockError(
            f"{runtime} is not a directory of this user alone", path=runtime,
            hint="XDG_RUNTIME_DIR must be yours, and nobody else's to write (mode 0700)",
        )  # fmt: skip
    directory = os.path.join(runtime, "fastdock")
    make_private(directory)
    return directory


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
