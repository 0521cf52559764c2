"""Content-addressed blobs: manifests, configurations, compressed layers, as in an OCI image layout.

A blob appears under its digest by rename(2), after its digest was verified and its bytes were fsynced.  What a
killed download leaves is ``ingest/<digest>``: the next download of the same blob goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from fastdock._errors import ImageError
from fastdock._light import Pattern

_DIGEST = Pattern(r"sha256:[0-9a-f]{64}")
CHUNK = 1 << 20


def check_digest(digest: str) -> str:
    """The hexadecimal part of ``digest``; ImageError unless it is sha256 and well-formed."""
    if not _DIGEST.fullmatch(digest):
        raise ImageError(f"{digest[:100]!r} is not a sha256 digest", hint="fastdock verifies sha256 only")
    return digest[7:]


def digest_of(data: bytes) -> str:
    from hashlib import sha256

    return "sha256:" + sha256(data).hexdigest()


class BlobStore:
    """The blobs below one state directory."""

    def __init__(self, root: str) -> None:
        self.directory = os.path.join(root, "blobs", "sha256")
        self.ingest = os.path.join(root, "ingest")

    def path(self, digest: str) -> str:
        return os.path.join(self.directory, check_digest(digest))

    def partial_path(self, digest: str) -> str:
        """Where an unfinished download of the blob is."""
        return os.path.join(self.ingest, check_digest(digest))

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        return os.stat(self.path(digest)).st_size

    def read(self, digest: str, limit: int = 8 << 20) -> bytes:
        """The bytes of a small blob, verified again; ImageError if it is missing, larger than limit or damaged."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise ImageError(
                f"blob {digest} is missing",
                hint="pull the image again, or run 'fastdock system check --repair'",
            ) from None
        if len(data) > limit:
            raise ImageError(f"blob {digest} is larger than {limit} bytes")
        if digest_of(data) != digest:
            raise ImageError(f"blob {digest} is damaged", hint="run 'fastdock system check --repair'")
        return data

    def write(self, data: bytes) -> str:
        """Stores a small blob; its digest."""
        digest = digest_of(data)
        if not self.has(digest):
            import tempfile

            fd, path = tempfile.mkstemp(dir=self.ingest, prefix="write-")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self.publish(path, digest)
            except BaseException:
                os.unlink(path)
                raise
        return digest

    def publish(self, path: str, digest: str) -> None:
        """Makes the verified and fsynced file ``path`` the blob ``digest``, for good."""
        os.rename(path, self.path(digest))
        sync_directory(self.directory)

    def remove(self, digest: str) -> int:
        """Removes the blob; the bytes that came free."""
        try:
            size = self.size(digest)
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return 0
        return size

    def digests(self) -> Iterator[str]:
        for entry in os.scandir(self.directory):
            if _DIGEST.fullmatch("sha256:" + entry.name):
                yield "sha256:" + entry.name

    def damaged(self, digest: str) -> bool:
        """Whether the blob's bytes are not those of its name (reads it all)."""
        from hashlib import file_digest

        with open(self.path(digest), "rb") as file:
            return "sha256:" + file_digest(file, "sha256").hexdigest() != digest


def sync_directory(path: str) -> None:
    """fsyncs a directory, so that a rename in it survives a power cut (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
