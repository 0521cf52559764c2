"""What a container has changed in its image."""

from __future__ import annotations

import os

from fastdock import _core
from fastdock.containers.creation import origin_of

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.containers.container import Container

# Made for what is mounted there, where the image has them not: no change of the container's.
# moby, daemon/initlayer/setup_unix.go
_MOUNTED_OVER = {"/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}


def _is_empty(path: str) -> bool:
    return not os.listdir(path) if os.path.isdir(path) else os.path.getsize(path) == 0


def changes(container: Container) -> list[tuple[str, str]]:
    """:meth:`Container.diff`."""
    layers = list(origin_of(container._containers, container.record).base.layers)
    with container._upper() as upper:
        found = _core.changes(upper, layers)
        ours = {p for kind, p in found if kind == "A" and p in _MOUNTED_OVER and _is_empty(upper + p)}
    if ours and not any(path.startswith("/etc/") and path not in ours for _, path in found):
        ours.add("/etc")  # nothing else has changed in it
    return [(kind, path) for kind, path in found if path not in ours]
