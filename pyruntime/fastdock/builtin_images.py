"""Images that are always there: ``host``, this machine's own system directories, and ``scratch``, empty.

``host`` shows /usr (and /opt) below a writable overlay, and an /etc of copies of what everybody may read;
the rest of the file system is empty directories.  So it holds none of the machine's secrets by the way it
is made, not by a list of them: what is not readable by every user of the machine is left out, whatever its
name is; /root, /home, /var, /run, /tmp and the like are new.
"""

from __future__ import annotations

import os

from fastdock.planning import DEFAULT_PATH, Base

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.engine import Engine

SHOWN = ("/usr", "/opt")
# What changes when the system does; looked at for every container, so these are few.
_WATCHED = ("/etc", "/etc/passwd", "/etc/group", "/etc/alternatives", "/etc/ld.so.cache", "/usr", "/usr/bin",
            "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/opt", "/var/lib/dpkg/status")  # fmt: skip


class _Scratch:
    """No file at all."""

    def key(self) -> str:
        return "builtin:scratch"

    def base(self, engine: Engine) -> Base:
        layer = os.path.join(_directory(engine), "scratch")
        os.makedirs(layer, mode=0o755, exist_ok=True)
        return Base(layers=(layer,))


class _Host:
    """This machine's system directories."""

    def key(self) -> str:
        import hashlib  # 4 ms, for this image only

        signs = []
        for path in _WATCHED:
            try:
                status = os.stat(path)
                signs.append(f"{path} {status.st_mtime_ns} {status.st_ino}")
            except OSError:
                signs.append(path)
        return "builtin:host:" + hashlib.sha256("\n".join(signs).encode()).hexdigest()[:24]

    def base(self, engine: Engine) -> Base:
        directory = os.path.join(_directory(engine), self.key().replace(":", "-"))
        if not os.path.exists(directory):
            from fastdock.host_layers import make_host, remove_old

            os.makedirs(_directory(engine), mode=0o700, exist_ok=True)
            make_host(directory)
            remove_old(directory)
        shown = [path for path in SHOWN if os.path.isdir(path)]
        return Base(
            layers=(os.path.join(directory, "root"),),
            overlays=tuple((path, (path, os.path.join(directory, path.strip("/")))) for path in shown),
            environment=(f"PATH={DEFAULT_PATH}",),
            command=("/bin/sh",),
        )


_BUILTIN: dict[str, _Host | _Scratch] = {"host": _Host(), "scratch": _Scratch()}


def find(name: str) -> _Host | _Scratch | None:
    """The built-in image of that name."""
    return _BUILTIN.get(name)


def names() -> list[str]:
    return list(_BUILTIN)


def mount_points(engine: Engine) -> str:
    """The layer below all others of a container that is kept: empty files and directories that are mounted over.

    Most images have no /etc/hosts and many no /proc.  Made through the overlay at a container's first start they
    cost it 0.6 ms, and seven inodes that would be taken for its own changes.
    """
    layer = os.path.join(_directory(engine), "mount-points")
    etc = os.path.join(layer, "etc")
    last = os.path.join(etc, "resolv.conf")
    if not os.path.exists(last):
        os.makedirs(_directory(engine), mode=0o700, exist_ok=True)
        for path in (layer, etc, *(os.path.join(layer, name) for name in ("dev", "proc", "sys"))):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o755)
        for path in (os.path.join(etc, "hostname"), os.path.join(etc, "hosts"), last):
            with open(path, "a"):
                os.chmod(path, 0o644)
    return layer


def _directory(engine: Engine) -> str:
    return os.path.join(engine.root, "builtin")
