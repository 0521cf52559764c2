"""Unpacked layers: one directory for each diff_id, shared by all images, never changed.

The row in the table ``layers`` is the truth: it is written after the directory was renamed into place, under
the layer's lock.  A directory without a row is what a killed process left, and is replaced.

Layers are not fsynced (60,000 small files would take longer than all the rest).  Instead a row remembers the
boot in which it was written until a later writer has called syncfs(2); after a reboot, a layer that still
remembers another boot is unpacked again from its blob.
"""

from __future__ import annotations

import os
import time

from fastdock._errors import ImageError
from fastdock._light import NamedTuple, sqlite3
from fastdock.store.blobs import CHUNK, BlobStore, check_digest
from fastdock.store.database import Database
from fastdock.store.locks import FileLock

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


TOP = "top-"  # begins the key of a directory that completes the layers below it


class Layer(NamedTuple):
    key: str  # the directory's name
    diff_id: str  # the chain ID, for one that completes others
    size: int  # bytes of the tar
    entries: int
    repairs: bytes  # what only the layers below can complete; empty for nearly all layers


class Blob(NamedTuple):
    """What a layer came as."""

    digest: str
    size: int
    media_type: str


class LayerStore:
    """The layers below one state directory."""

    def __init__(self, root: str, database: Database, blobs: BlobStore) -> None:
        self.directory = os.path.join(root, "layers")
        self.staging = os.path.join(root, "staging")
        self._locks = os.path.join(root, "locks")
        self._database = database
        self._blobs = blobs

    def path(self, key: str) -> str:
        return os.path.join(self.directory, key)

    def lock(self, diff_id: str) -> FileLock:
        """The lock to hold while the layer is being made."""
        return FileLock(os.path.join(self._locks, f"layer-{check_digest(diff_id)}"))

    def find(self, key: str) -> Layer | None:
        """The layer with this key, if it is here and known to be whole."""
        row = self._database.execute(
            "SELECT key, diff_id, size, entries, repairs, boot FROM layers WHERE key = ?", (key,)
        ).fetchone()
        if row is None or not is_whole(row[5]):
            return None
        return Layer(*row[:5])

    def find_diff(self, diff_id: str) -> Layer | None:
        return self.find(check_digest(diff_id))

    def stage(self) -> str:
        """A new empty directory to unpack into.  Whatever is left in staging/ is swept when nobody writes."""
        import tempfile

        path = tempfile.mkdtemp(dir=self.staging, prefix="layer-")
        os.chmod(path, 0o755)  # it becomes the root directory of containers
        return path

    def publish(self, staged: str, layer: Layer, blob: Blob | None = None) -> Layer:
        """Makes the unpacked and verified directory ``staged`` the layer.  Its lock must be held.

        That the blob unpacks to it is recorded in the same transaction: a layer that is here without a blob
        could be neither pushed nor repaired.
        """
        if existing := self.find(layer.key):
            remove_tree(staged)
            with self._database.transaction() as connection:
                _record_blob(connection, blob, layer.diff_id)
            return existing
        path = self.path(layer.key)
        if os.path.lexists(path):  # no row: left by a killed process, or not known to be on the disk
            os.rename(path, os.path.join(self.staging, f"old-{layer.key}-{os.getpid()}"))
        os.rename(staged, path)
        with self._database.transaction() as connection:
            _record_blob(connection, blob, layer.diff_id)
            connection.execute(
                "INSERT INTO layers (key, diff_id, size, entries, repairs, boot) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET boot = excluded.boot",
                (
                    layer.key,
                    layer.diff_id,
                    layer.size,
                    layer.entries,
                    layer.repairs,
                    f"{boot_id()} {time.time_ns()}",
                ),
            )
        return layer

    def unpack_blob(self, digest: str, diff_id: str, blob: Blob | None = None) -> Layer:
        """Unpacks a blob that is here, and records it as ``blob``.  ImageError if it does not unpack to ``diff_id``."""
        with self.lock(diff_id):
            if layer := self.find_diff(diff_id):
                return layer
            with open(self._blobs.path(digest), "rb") as file, Unpacking(self) as unpacking:
                while chunk := file.read(CHUNK):
                    unpacking.write(chunk)
                result = unpacking.finish()
                check_result(result, digest, diff_id)
                return unpacking.publish_result(result, blob)

    def chain(self, diff_ids: Sequence[str]) -> list[str]:
        """The keys of the directories to stack for an image's layers, lowest first.

        What a layer alone could not know (a hard link to a file below, a directory that it does not list) goes
        into one more directory on top of all, kept by the image's chain ID.
        """
        layers: list[Layer] = []
        for diff_id in diff_ids:
            layer = self.find_diff(diff_id)
            if layer is None:
                raise ImageError(f"layer {diff_id} is not here", hint="pull the image again")
            layers.append(layer)
        keys = [layer.key for layer in layers]
        # Nothing is below the first: what it implies it has, and a file that it only links to is nowhere.
        if any(layer.repairs for layer in layers[1:]) or (layers and _has_links(layers[0].repairs)):
            keys += self._top(layers, chain_id(diff_ids))
        return keys

    def _top(self, layers: list[Layer], chain: str) -> list[str]:
        """The key of the directory on top, if these layers need one."""
        key = TOP + check_digest(chain)
        with self.lock(chain):
            if self.find(key):
                return [key]
            staged = self.stage()
            try:
                needed = self.repair(layers, staged)
            except BaseException:
                remove_tree(staged)
                raise
            if not needed:
                remove_tree(staged)
                return []
            self.publish(staged, Layer(key, chain, 0, needed, b""))
            return [key]

    def repair(self, layers: Sequence[Layer], directory: str) -> int:
        """Fills an empty directory with what these layers need on top of them; how many things that was."""
        from fastdock import _core

        return _core.repair_layers([(self.path(layer.key), layer.repairs) for layer in layers], directory)

    def settle(self) -> None:
        """Makes what was written in this boot durable, and says so in the database."""
        rows = self._database.execute("SELECT key, boot FROM layers WHERE boot IS NOT NULL").fetchall()
        rows = [row for row in rows if is_whole(row[1])]
        if rows:
            sync_filesystem(self.directory)
            with self._database.transaction() as connection:  # unless it was written anew meanwhile
                connection.executemany("UPDATE layers SET boot = NULL WHERE key = ? AND boot = ?", rows)

    def settle_meanwhile(self) -> None:
        """The same beside the caller's work: the file system may have much else to write."""
        if self._database.execute("SELECT 1 FROM layers WHERE boot IS NOT NULL LIMIT 1").fetchone():
            import threading

            def attempt() -> None:
                try:
                    self.settle()
                except (OSError, sqlite3.Error):  # the next writer tries again
                    pass

            threading.Thread(target=attempt, name="fastdock-settle", daemon=True).start()


class Unpacking:
    """One layer on its way into the store: written in pieces, verified, published; or discarded.

    A context manager: leaving it without :meth:`publish_result` leaves nothing behind.
    """

    def __init__(self, layers: LayerStore) -> None:
        from fastdock import _core

        self._layers = layers
        self._staged = layers.stage()
        self._writer = _core.LayerWriter(self._staged)
        self._open = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes compressed or plain bytes of the tar; releases the GIL, and blocks while it is behind."""
        self._writer.write(data)

    def finish(self) -> Any:
        """Ends the stream: the result, with ``digest``, ``diff_id`` and sizes as they were met."""
        self._open = False
        return self._writer.finish()

    def keep(self) -> str:
        """Leaves the unpacked directory, after finish(), to the caller."""
        staged, self._staged = self._staged, ""
        return staged

    def publish_result(self, result: Any, blob: Blob | None = None) -> Layer:
        """Makes the finished and verified layer visible.  Hold the layer's lock."""
        key = check_digest(result.diff_id)
        layer = Layer(key, result.diff_id, result.size, result.entries, bytes(result.repairs))
        layer = self._layers.publish(self._staged, layer, blob)
        self._staged = ""
        return layer

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._open = False
            self._writer.abort()
        if self._staged:
            remove_tree(self._staged)


def _record_blob(connection: sqlite3.Connection, blob: Blob | None, diff_id: str) -> None:
    if blob is not None:
        connection.execute(
            "INSERT OR IGNORE INTO layer_blobs VALUES (?, ?, ?, ?)",
            (blob.digest, diff_id, blob.size, blob.media_type),
        )


def check_result(result: Any, digest: str | None, diff_id: str | None) -> None:
    """ImageError unless the layer that went through is the one that was promised."""
    if digest is not None and result.digest != digest:
        raise ImageError(f"the layer's digest is {result.digest}, not {digest}: it was damaged or altered")
    if diff_id is not None and result.diff_id != diff_id:
        raise ImageError(f"layer {digest} unpacks to {result.diff_id}; the image says {diff_id}")


def chain_id(diff_ids: Sequence[str]) -> str:
    """What identifies layers in their order (OCI image-spec, "Layer ChainID")."""
    from hashlib import sha256

    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = "sha256:" + sha256(f"{chain} {diff_id}".encode()).hexdigest()
    return chain


def is_whole(boot: str | None) -> bool:
    """Whether a layer with this mark is on the disk, or was written in this boot and so is in the page cache."""
    return boot is None or boot.startswith(boot_id())


def boot_id() -> str:
    """What the kernel calls this boot (random(4))."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot_id = file.read().strip()
    return _boot_id


_boot_id = ""


def remove_tree(path: str) -> None:
    """Removes a directory tree that is ours; never follows a link."""
    import shutil

    shutil.rmtree(path)


def sync_filesystem(path: str) -> None:
    """Writes all of the file system that holds ``path`` to its disk: syncfs(2), which Python lacks."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


def _has_links(repairs: bytes) -> bool:
    """Whether hard links are among the needs: they come after the directories (csrc/layer/unpack.cpp, repairs())."""
    return next((word for word in repairs.split(b"\0") if not word.startswith(b"d")), b"").startswith(b"l")
