"""Taking back the space of what nothing uses any more.

Removing is: first the rows, in one transaction, then the files.  A process killed in between leaves files
without rows, which the next sweep finds.  Nothing is swept while anybody writes (Store.writing): a writer may
rely on a blob or layer that only it knows about.
"""

from __future__ import annotations

import contextlib
import os

from fastdock.store.layers import remove_tree
from fastdock.store.locks import FileLock, lease_path

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from fastdock.store.store import Store

PARTIAL_AGE = 7 * 86400.0  # seconds that an unfinished download waits for somebody to go on with it


def is_leased(store: Store, image_id: str) -> bool:
    """Whether a living process holds a lease on the image."""
    path = lease_path(store.root, image_id)
    if not os.path.exists(path):
        return False
    lock = FileLock(path)
    if not lock.acquire(blocking=False):
        return True
    lock.release()
    return False


def _take_lease(store: Store, image_id: str, leases: contextlib.ExitStack) -> bool:
    lock = FileLock(lease_path(store.root, image_id))
    if not lock.acquire(blocking=False):
        return False
    leases.callback(lock.release)
    return True


def sweep(store: Store, *, everything: bool = False) -> list[str]:
    """Removes removed images, then the layers and blobs that no image uses; the digests of what went.

    ``everything`` also takes complete blobs and layers that no image ever came to use (left by killed pulls).
    While somebody writes, only notes that a sweep is wanted: the last writer does it.
    """
    lock = FileLock(store.writers_lock)
    if not lock.acquire(blocking=False):
        with open(store.sweep_wanted, "w"):
            return []
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store.sweep_wanted)
        with contextlib.ExitStack() as leases:
            images, layers, blobs = _forget(store, everything, leases)
        for key in layers:
            _discard_layer(store, key)
        for digest in blobs:
            store.blobs.remove(digest)
        if everything:
            blobs += _remove_strays(store)
        _clear_staging(store)
    finally:
        lock.release()
    return images + [f"sha256:{key}" for key in layers]


def _forget(
    store: Store, everything: bool, leases: contextlib.ExitStack
) -> tuple[list[str], list[str], list[str]]:
    """Deletes rows: (images, layer keys, blob digests) whose files can go now.

    Each image's lease is taken, and kept until the commit, so that nobody can lease what is being removed.
    """
    with store.database.transaction() as connection:
        removed = connection.execute(
            "SELECT id FROM images WHERE removed AND id NOT IN (SELECT image_id FROM holds)"
        ).fetchall()
        images = [image_id for (image_id,) in removed if _take_lease(store, image_id, leases)]
        candidates: set[str] = set()
        layer_candidates: set[str] = set()
        for image_id in images:
            candidates.update(
                d
                for (d,) in connection.execute(
                    "SELECT digest FROM image_blobs WHERE image_id = ?", (image_id,)
                )
            )
            layer_candidates.update(
                k
                for (k,) in connection.execute("SELECT key FROM image_layers WHERE image_id = ?", (image_id,))
            )
            connection.execute("DELETE FROM images WHERE id = ?", (image_id,))
        if everything:
            layer_candidates.update(k for (k,) in connection.execute("SELECT key FROM layers"))
        layers = [
            key
            for key in sorted(layer_candidates)
            if not connection.execute("SELECT 1 FROM image_layers WHERE key = ?", (key,)).fetchone()
        ]
        connection.executemany("DELETE FROM layers WHERE key = ?", [(key,) for key in layers])
        blobs = [
            digest
            for digest in sorted(candidates)
            if not connection.execute("SELECT 1 FROM image_blobs WHERE digest = ?", (digest,)).fetchone()
        ]
        connection.executemany("DELETE FROM layer_blobs WHERE digest = ?", [(digest,) for digest in blobs])
    return images, layers, blobs


def _remove_strays(store: Store) -> list[str]:
    """Removes blobs and layer directories that the database does not know, and old unfinished downloads."""
    execute = store.database.execute
    known = {digest for (digest,) in execute("SELECT digest FROM image_blobs")}
    strays = [digest for digest in store.blobs.digests() if digest not in known]
    for digest in strays:
        store.blobs.remove(digest)
        execute("DELETE FROM layer_blobs WHERE digest = ?", (digest,))
    keys = {key for (key,) in execute("SELECT key FROM layers")}
    for name in os.listdir(store.layers.directory):
        if name not in keys:
            _discard_layer(store, name)
    return strays


def _discard_layer(store: Store, key: str) -> None:
    """Out of sight first: a kill in the middle must not leave half a layer under a layer's name."""
    target = os.path.join(store.layers.staging, f"old-{key}-{os.getpid()}")
    try:
        os.rename(store.layers.path(key), target)
    except FileNotFoundError:
        return
    remove_tree(target)


def sweep_leftovers(store: Store) -> None:
    """Clears away what dead processes left, if nobody is writing now."""
    if not os.listdir(store.layers.staging) and not os.listdir(store.blobs.ingest):
        return
    lock = FileLock(store.writers_lock)
    if lock.acquire(blocking=False):
        try:
            _clear_staging(store)
        finally:
            lock.release()


def _clear_staging(store: Store) -> None:
    """Call while nobody writes: then everything in staging/ belongs to the dead."""
    import time

    for name in os.listdir(store.layers.staging):
        path = os.path.join(store.layers.staging, name)
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path)
        else:
            os.unlink(path)
    for entry in os.scandir(store.blobs.ingest):
        # A download that can be resumed is named by its digest alone.
        if "-" in entry.name or entry.stat().st_mtime < time.time() - PARTIAL_AGE:
            os.unlink(entry.path)
