"""What tests of all kinds share: the image busybox as a tar, and what to do where a part is missing."""

from __future__ import annotations

import io
import os
import shutil
import tarfile

import pytest


def must_work() -> bool:
    """Whether a missing part is a failure (in CI) instead of a skip."""
    return bool(os.environ.get("FASTDOCK_MUST_WORK"))


def missing(reason: str) -> None:
    """Skips the test, or fails it where everything must work."""
    if must_work():
        pytest.fail(reason)
    pytest.skip(reason)


def busybox_tar() -> bytes:
    """A root file system of this machine's static busybox, with a few users."""
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("no busybox (apt-get install busybox-static)")
    assert busybox is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in ("sh", "cat", "echo", "env", "false", "grep", "hostname", "id", "ls", "mkdir", "mount", "ps", "pwd",
                     "readlink", "rm", "sleep", "stat", "stty", "tee", "touch", "true", "tty", "ulimit", "wc", "yes",
                     "kill", "dd", "head", "ip", "chroot", "mknod", "ln", "rmdir", "umount", "unshare", "test"):  # fmt: skip
            add_link(tar, f"bin/{name}", "busybox")
        add_file(tar, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n")
        add_file(tar, "etc/group", "root:x:0:\nwww:x:34:\nextra:x:50:web\nmore:x:51:\n")
        for directory in ("proc", "sys", "dev", "root", "var/www"):
            add_directory(tar, directory)
        add_directory(tar, "tmp", 0o1777)
    return buffer.getvalue()


def add_file(tar: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def add_directory(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
