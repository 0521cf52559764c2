"""A mount namespace in which this hybrid machine looks like a cgroup v1 machine.

crun, and podman with it, refuse a hybrid machine whose v2 tree has a controller ("cgroups in hybrid mode not
supported").  Where /sys/fs/cgroup/unified is not mounted they work.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Cgroup1Namespace"]

_CLONE_NEWNS, _CLONE_FS, _MS_PRIVATE_REC, _MNT_DETACH = 0x20000, 0x200, 0x44000, 2
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


class Cgroup1Namespace:
    """Commands spawned inside ``with namespace.entered():`` do not see the v2 tree.

    Where the machine is not hybrid, nothing is changed.
    """

    def __init__(self) -> None:
        unified = Path("/sys/fs/cgroup/unified/cgroup.controllers")
        self._inside = self._outside = -1
        if os.geteuid() != 0 or not unified.exists() or not unified.read_text().strip():
            return
        self._outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        where = os.getcwd()
        _check(_libc.unshare(_CLONE_FS | _CLONE_NEWNS), "unshare")
        try:
            _check(_libc.mount(None, b"/", None, _MS_PRIVATE_REC, None), "mount --make-rprivate /")
            _check(_libc.umount2(b"/sys/fs/cgroup/unified", _MNT_DETACH), "umount /sys/fs/cgroup/unified")
            self._inside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            self._enter(self._outside)
            os.chdir(where)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace for the block.  To change costs some µs: time inside the block."""
        if self._inside < 0:
            yield
            return
        # setns(2) into a mount namespace wants a file system context that no other thread shares, and moves
        # its working directory.
        _check(_libc.unshare(_CLONE_FS), "unshare")
        where = os.getcwd()
        self._enter(self._inside)
        try:
            yield
        finally:
            self._enter(self._outside)
            os.chdir(where)

    def _enter(self, namespace: int) -> None:
        _check(_libc.setns(namespace, _CLONE_NEWNS), "setns")

    def close(self) -> None:
        """The namespace ends with its last process and descriptor."""
        for fd in (self._inside, self._outside):
            if fd >= 0:
                os.close(fd)
        self._inside = self._outside = -1
