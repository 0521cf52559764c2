"""State directories that somebody has removed: what is left of them in /run."""

from __future__ import annotations

import os
import threading

from fastdock import _core


def mark(root: str, run_directory: str) -> None:
    """Notes in the run directory whose it is; a state directory may have been moved."""
    link = os.path.join(run_directory, "root")
    new = f"{link}.{os.getpid()}.{threading.get_ident()}"
    os.symlink(root, new)
    os.rename(new, link)


def sweep(base: str, cgroup_parent: str) -> None:
    """Removes the run directories in ``base`` whose state directory has gone, unless something still runs there."""
    for name in os.listdir(base):
        run_directory = os.path.join(base, name)
        try:
            root = os.readlink(os.path.join(run_directory, "root"))
        except OSError:  # none of these, or of an older version
            continue
        if not _is_root(root, name):
            _remove(root, run_directory, f"{cgroup_parent}/{name}")


def _is_root(root: str, name: str) -> bool:
    """Whether the directory there is still the one that the run directory was named after (paths.py)."""
    try:
        status = os.stat(root)
    except OSError:
        return False
    return name == f"{status.st_dev:x}-{status.st_ino:x}"


def _remove(root: str, run_directory: str, cgroup_parent: str) -> None:
    # ``root`` may be another's by now, of the same path: so nothing below it is touched.
    nowhere = os.path.join(run_directory, "nowhere")
    try:
        _core.Session.remove_abandoned(nowhere, run_directory, cgroup_parent)
        _core.repair(nowhere, run_directory, cgroup_parent)
        if not any(_entries(os.path.join(run_directory, name)) for name in ("sessions", "containers")):
            _core.remove_tree(run_directory)
    except OSError:  # in use, or going just now
        pass


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
