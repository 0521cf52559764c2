"""Mounts, volumes and devices as users write them: ``--mount``, ``-v``, ``--tmpfs``, ``--device``."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fastdock._errors import SpecError
from fastdock._light import NamedTuple, Pattern
from fastdock.sizes import parse_size

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any, Literal

_VOLUME_NAME = Pattern(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MODE = Pattern("[0-7]{1,5}")


class MountOption(NamedTuple):
    """One bind mount, volume or tmpfs that the user asked for."""

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = ""
    recursive: bool = True
    create_source: bool = False  # -v makes a missing host directory; --mount does not
    options: str = ""  # tmpfs: its own options
    no_copy: bool = False  # volume: do not fill it with what the image has there


_MOUNT_KEYS = {
    "type": "type", "source": "source", "src": "source", "target": "target", "destination": "target",
    "dst": "target", "readonly": "readonly", "ro": "readonly", "bind-propagation": "propagation",
    "bind-nonrecursive": "nonrecursive", "bind-recursive": "recursive", "tmpfs-size": "size",
    "tmpfs-mode": "mode", "volume-nocopy": "nocopy", "volume-driver": "driver", "volume-opt": "opt",
    "volume-label": "label", "consistency": "consistency",
}  # fmt: skip


_PROPAGATIONS = {recursive + kind for recursive in ("", "r") for kind in ("private", "shared", "slave")}


def _truth(value: Any, mount: Any) -> bool:
    if value in (True, None, "", "true", "1", "True"):
        return True
    if value in (False, "false", "0", "False"):
        return False
    raise SpecError(f"mount {mount!r}: {value!r} is neither true nor false")


def parse_mount(value: str | Mapping[str, Any]) -> MountOption:
    """Docker's ``--mount``: ``type=bind,source=/a,target=/b,readonly``; or the same as a mapping."""
    if isinstance(value, str):
        pairs = [
            (k.strip().lower(), v if eq else None)
            for k, eq, v in (w.partition("=") for w in value.split(","))
        ]
    else:
        pairs = [(str(k).replace("_", "-").lower(), v) for k, v in value.items()]
        pairs = [("readonly" if k == "read-only" else k, v) for k, v in pairs]
    given: dict[str, Any] = {}
    for key, content in pairs:
        if key not in _MOUNT_KEYS:
            raise SpecError(f"mount {value!r}: unknown key {key!r}")
        given[_MOUNT_KEYS[key]] = content
    kind: Any = given.get("type") or "volume"
    if kind not in ("bind", "volume", "tmpfs"):
        raise SpecError(f"mount {value!r}: type must be bind, volume or tmpfs")
    target, source = (_path(given.get(key), value) for key in ("target", "source"))
    if not target:
        raise SpecError(f"mount {value!r}: target is missing")
    if kind == "bind" and not source:
        raise SpecError(f"mount {value!r}: a bind mount needs a source")
    if kind == "bind" and not source.startswith("/"):
        raise SpecError(f"mount {value!r}: the source must be an absolute path")
    if kind == "tmpfs" and source:
        raise SpecError(f"mount {value!r}: a tmpfs has no source")
    if kind == "volume" and source and not _VOLUME_NAME.fullmatch(source):
        raise SpecError(
            f"mount {value!r}: {source!r} is no volume's name; for a host directory write type=bind"
        )
    propagation = given.get("propagation") or ""
    if propagation and propagation not in _PROPAGATIONS:
        raise SpecError(f"mount {value!r}: unknown propagation {propagation!r}")
    words = []
    if given.get("size"):
        words.append(f"size={parse_size(given['size'], 'tmpfs-size')}")
    if given.get("mode"):
        if not _MODE.fullmatch(str(given["mode"])):
            raise SpecError(f"mount {value!r}: tmpfs-mode is octal, as in 1777")
        words.append(f"mode={given['mode']}")
    return MountOption(
        type=kind,
        target=mount_point(target, "mount target"),
        source=source,
        read_only="readonly" in given and _truth(given["readonly"], value),
        propagation=propagation,
        recursive=not ("nonrecursive" in given and _truth(given["nonrecursive"], value)),
        options=",".join(words),
        no_copy="nocopy" in given and _truth(given["nocopy"], value),
    )


def _path(value: Any, mount: Any) -> str:
    """Text or a path-like object; SpecError for what no path is."""
    try:
        path = os.fspath(value) if value is not None else ""
    except TypeError:
        raise SpecError(f"mount {mount!r}: {value!r} is no path") from None
    if not isinstance(path, str) or "\0" in path:
        raise SpecError(f"mount {mount!r}: {value!r} is no path")
    return path


def parse_volume(text: str) -> MountOption:
    """Docker's ``-v``: ``/host:/container[:ro]``, ``name:/container[:options]`` or ``/container``."""
    parts = text.split(":")
    if len(parts) == 1:
        return MountOption(type="volume", target=mount_point(parts[0], "volume"))
    if len(parts) > 3 or not parts[0] or "\0" in text:
        raise SpecError(f"volume {text!r}: write SOURCE:TARGET[:OPTIONS]")
    source, target, words = (
        parts[0],
        mount_point(parts[1], "volume"),
        (parts[2].split(",") if len(parts) == 3 else []),
    )
    known = {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"} | _PROPAGATIONS
    if unknown := set(words) - known:
        raise SpecError(f"volume {text!r}: unknown option {unknown.pop()!r}")
    if "ro" in words and "rw" in words:
        raise SpecError(f"volume {text!r}: ro and rw contradict each other")
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    if source.startswith(("/", ".", "~")):
        source = os.path.abspath(os.path.expanduser(source))
        return MountOption("bind", target, source, "ro" in words, propagation, create_source=True)
    if not _VOLUME_NAME.fullmatch(source):
        raise SpecError(f"volume {text!r}: {source!r} is neither an absolute path nor a volume's name")
    return MountOption("volume", target, source, "ro" in words, no_copy="nocopy" in words)


def parse_tmpfs(text: str) -> MountOption:
    """Docker's ``--tmpfs``: ``/path[:options]``, by default ``rw,nosuid,nodev,noexec``."""
    target, _, words = text.partition(":")
    if "\0" in words:
        raise SpecError(f"tmpfs {text!r}: a NUL byte is in no option")
    return MountOption("tmpfs", mount_point(target, "tmpfs"), options=words)


class DeviceOption(NamedTuple):
    host: str
    container: str
    access: str = "rwm"


def parse_device(text: str) -> DeviceOption:
    """Docker's ``--device``: ``/dev/host[:/dev/container][:rwm]``."""
    parts = text.split(":")
    if len(parts) == 2 and not parts[1].startswith("/"):
        parts = [parts[0], parts[0], parts[1]]
    parts += [parts[0]] if len(parts) == 1 else []
    parts += ["rwm"] if len(parts) == 2 else []
    if len(parts) != 3 or not set(parts[2]) <= set("rwm") or not parts[2] or not parts[0].startswith("/"):
        raise SpecError(f"device {text!r}: write HOST[:CONTAINER][:rwm]")
    return DeviceOption(parts[0], mount_point(parts[1], "device"), parts[2])


def mount_point(path: str, what: str) -> str:
    """An absolute path that is not the root itself: a mount there would hide all the others."""
    clean = absolute(path, what)
    if clean == "/":
        raise SpecError(f"{what} {path!r}: nothing can be put at the root directory itself")
    return clean


def absolute(path: str, what: str) -> str:
    """``path`` without ``.`` and doubled slashes; SpecError unless it is absolute and without ``..``."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise SpecError(f"{what} {path!r}: must be an absolute path without '..'")
    return os.path.normpath(path).replace("//", "/")
