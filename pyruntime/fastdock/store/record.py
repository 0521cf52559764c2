"""What the store knows of one image."""

from __future__ import annotations

from fastdock._light import NamedTuple

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from typing import Any


class ImageRecord(NamedTuple):
    """An image that is here: unpacked, verified, ready to start from."""

    id: str
    """Digest of the configuration, ``sha256:…``."""
    names: tuple[str, ...]
    """Full names, sorted: ``docker.io/library/busybox:latest``."""
    digests: tuple[str, ...]
    """Names by digest, sorted: ``docker.io/library/busybox@sha256:…``."""
    document: dict[str, Any]
    """The whole OCI image configuration: ``config``, ``rootfs``, ``history``, …"""
    layer_paths: list[str]
    """The unpacked layers' directories, lowest first."""
    architecture: str
    manifest: str
    """Digest of the manifest that it came with last."""
    size: int
    """Bytes of all its layers, unpacked."""
    tagged: float
    """When it last got a name, in seconds since the epoch."""

    @property
    def config(self) -> dict[str, Any]:
        """How to run it: ``Env``, ``Cmd``, ``Entrypoint``, ``User``, ``WorkingDir``, ``Labels``, …"""
        return self.document.get("config") or {}

    @property
    def diff_ids(self) -> list[str]:
        """The digest of each layer's tar, lowest first."""
        ids: list[str] = self.document["rootfs"]["diff_ids"]
        return ids

    @property
    def created(self) -> str:
        """RFC 3339, or empty."""
        return self.document.get("created") or ""
