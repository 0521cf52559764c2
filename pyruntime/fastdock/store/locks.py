"""Locks between processes: flock(2) on files below ``locks/``.

The kernel drops a lock when its holder dies, so a SIGKILL leaves nothing to clean up but a file of no bytes.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from types import TracebackType


class FileLock:
    """A lock named by a path; shared or exclusive; not re-entrant.

    An exclusive holder removes the file as it lets go.  So a lock counts only if the path still leads to the
    very file that was locked; otherwise somebody removed it while we waited, and we start again.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self.shared = shared
        self._fd = -1

    def acquire(self, *, blocking: bool = True) -> bool:
        """Takes the lock; False if it is not ``blocking`` and another process (or thread) has it."""
        kind = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, kind if blocking else kind | fcntl.LOCK_NB)
                if _is_file_at(fd, self.path):
                    self._fd = fd
                    return True
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if not self.shared:
            os.unlink(self.path)
        os.close(fd)

    def detach(self) -> int:
        """Gives the locked descriptor away: whoever holds it (a child, too) holds the lock."""
        fd, self._fd = self._fd, -1
        return fd

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_file_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def lease_path(root: str, image_id: str) -> str:
    """The lock that who uses an image for a while holds shared (Store.lease)."""
    return os.path.join(root, "locks", f"lease-{image_id.removeprefix('sha256:')}")


def is_locked(path: str) -> bool:
    """Whether somebody has the lock of a directory or file that is there.

    A container's run directory is locked by its monitor as long as that lives; its number may be a zombie's, or
    another's by now.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
