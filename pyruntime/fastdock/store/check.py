"""``fastdock system check``: blobs, layers and database verified against each other, and repaired.

A blob is read whole and digested.  A layer is compared, file by file, with what its blob unpacks to; if they
differ, that takes its place.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastdock._errors import FastdockError, ImageError
from fastdock.store import sweep
from fastdock.store.blobs import digest_of
from fastdock.store.ingest import read_chunks
from fastdock.store.layers import TOP, Unpacking, check_result, remove_tree
from fastdock.store.locks import FileLock
from fastdock.store.store import Store


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: str  # "blob", "layer", "image", "database", "leftover"
    name: str
    problem: str
    repaired: bool


def check(
    store: Store, *, repair: bool = False, progress: Callable[[str], None] | None = None
) -> list[Finding]:
    """All that is wrong; with ``repair``, what can be put right here is.

    A damaged blob is removed (the next pull fetches it again); a damaged layer is unpacked again if its blob is
    whole; an image that cannot be repaired stays, and says so.
    """
    tell = progress or (lambda _: None)
    with store.writing():
        findings = list(_check_database(store))
        findings += _check_blobs(store, repair, tell)
        findings += _check_layers(store, repair, tell)
        findings += _check_images(store)
    findings += _check_leftovers(store, repair)
    return findings


def _check_database(store: Store) -> Iterator[Finding]:
    for (problem,) in store.database.execute("PRAGMA integrity_check").fetchall():
        if problem != "ok":
            yield Finding("database", store.database.path, str(problem), False)
    for table, row, parent, _ in store.database.execute("PRAGMA foreign_key_check").fetchall():
        yield Finding("database", f"{table} row {row}", f"refers to a missing row of {parent}", False)


def _check_blobs(store: Store, repair: bool, tell: Callable[[str], None]) -> Iterator[Finding]:
    for digest in sorted(store.blobs.digests()):
        tell(f"blob {digest}")
        try:
            damaged = store.blobs.damaged(digest)
        except FileNotFoundError:  # removed meanwhile
            continue
        if not damaged:
            continue
        repaired = False
        if repair:
            repaired = _restore_from_database(store, digest)
            if not repaired:
                store.blobs.remove(digest)
        yield Finding("blob", digest, "its bytes are not those of its digest", repaired)


def _restore_from_database(store: Store, digest: str) -> bool:
    """Writes a configuration anew, of which the database has a copy."""
    row = store.database.execute("SELECT document FROM images WHERE id = ?", (digest,)).fetchone()
    if row is None or digest_of(row[0].encode()) != digest:
        return False
    store.blobs.remove(digest)
    store.blobs.write(row[0].encode())
    return True


def _check_layers(store: Store, repair: bool, tell: Callable[[str], None]) -> Iterator[Finding]:
    for key, diff_id in store.database.execute("SELECT key, diff_id FROM layers").fetchall():
        tell(f"layer {diff_id}")
        path = store.layers.path(key)
        try:
            fresh = _unpack_afresh(store, key, diff_id)
        except FastdockError as error:
            if not os.path.isdir(path):
                yield Finding(
                    "layer", key, f"its directory is missing, and cannot be made again: {error}", False
                )
            continue
        try:
            problem = compare(path, fresh) if os.path.isdir(path) else "its directory is missing"
            if problem and repair:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path, fresh + "-old")
                os.rename(fresh, path)
        finally:
            for leftover in (fresh, fresh + "-old"):
                if os.path.isdir(leftover):
                    remove_tree(leftover)
        if problem:
            yield Finding("layer", key, problem, repair)


def _unpack_afresh(store: Store, key: str, diff_id: str) -> str:
    """A directory in staging/ with what the layer should be; FastdockError where there is no good blob of it."""
    if key.startswith(TOP):
        return _repair_afresh(store, key)
    digest = store.blob_of_layer(diff_id)
    with open(store.blobs.path(digest), "rb") as file, Unpacking(store.layers) as unpacking:
        for chunk in read_chunks(file):
            unpacking.write(chunk)
        check_result(unpacking.finish(), digest, diff_id)
        return unpacking.keep()


def _repair_afresh(store: Store, key: str) -> str:
    """The same for the directory that completes an image's layers."""
    rows = store.database.execute(
        "SELECT b.key FROM image_layers b JOIN (SELECT image_id, position FROM image_layers WHERE key = ? LIMIT 1) t "
        "ON b.image_id = t.image_id AND b.position < t.position ORDER BY b.position",
        (key,),
    ).fetchall()
    layers = [layer for (below,) in rows if (layer := store.layers.find(below))]
    if not layers or len(layers) != len(rows):
        raise ImageError(f"the layers below {key} are not here")
    fresh = store.layers.stage()
    try:
        store.layers.repair(layers, fresh)
    except BaseException:
        remove_tree(fresh)
        raise
    return fresh


def _check_images(store: Store) -> Iterator[Finding]:
    """The blobs that an image cannot be pushed, saved or repaired without."""
    for record in store.records():
        if not store.blobs.has(record.id):
            store.blobs.write(_document(store, record.id))
        if not store.blobs.has(record.manifest):
            yield Finding("image", record.id, f"its manifest {record.manifest} is missing", False)
        for diff_id in record.diff_ids:
            try:
                store.blob_of_layer(diff_id)
            except FastdockError:
                yield Finding("image", record.id, f"no blob of its layer {diff_id} is here", False)


def _document(store: Store, image_id: str) -> bytes:
    (text,) = store.database.execute("SELECT document FROM images WHERE id = ?", (image_id,)).fetchone()
    return str(text).encode()


def _check_leftovers(store: Store, repair: bool) -> list[Finding]:
    """What belongs to nobody: half-made things of dead processes, blobs and layers that no image uses."""
    lock = FileLock(store.writers_lock)
    if not lock.acquire(blocking=False):
        return []
    try:
        keys = {key for (key,) in store.database.execute("SELECT key FROM layers")}
        used = {key for (key,) in store.database.execute("SELECT DISTINCT key FROM image_layers")}
        blobs = {digest for (digest,) in store.database.execute("SELECT DISTINCT digest FROM image_blobs")}
        names = [("leftover", name, "a layer's directory that the database does not know")
                 for name in os.listdir(store.layers.directory) if name not in keys]  # fmt: skip
        names += [("leftover", key, "a layer that no image uses") for key in sorted(keys - used)]
        names += [("leftover", digest, "a blob that no image uses")
                  for digest in store.blobs.digests() if digest not in blobs]  # fmt: skip
        names += [
            ("leftover", name, "half-made by a process that died")
            for name in os.listdir(store.layers.staging)
        ]
    finally:
        lock.release()
    if repair and names:
        sweep.sweep(store, everything=True)
    return [Finding(*name, repair) for name in names]


def compare(left: str, right: str) -> str:
    """The first difference between two directory trees, in words; empty if there is none."""
    pending = [""]
    while pending:
        where = pending.pop()
        one, other = os.path.join(left, where), os.path.join(right, where)
        if all(stat.S_ISDIR(os.lstat(path).st_mode) for path in (one, other)):
            names = os.listdir(one)
            if different := set(names) ^ set(os.listdir(other)):
                name = min(different)
                return f"{os.path.join(where, name)}: {'too much' if name in names else 'missing'}"
            pending += [os.path.join(where, name) for name in names]
        if problem := _compare_one(one, other):
            return f"{where or '/'}: {problem}"
    return ""


def _compare_one(left: str, right: str) -> str:
    one, other = os.lstat(left), os.lstat(right)
    if all(stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 for status in (one, other)):
        return ""  # whiteouts: the archive has only their names, so they have the time of the unpacking
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_rdev"):
        if getattr(one, name) != getattr(other, name):
            return f"another {name[3:]}"
    for name in sorted(
        {*os.listxattr(left, follow_symlinks=False), *os.listxattr(right, follow_symlinks=False)}
    ):
        if _attribute(left, name) != _attribute(right, name):
            return f"another attribute {name}"
    if stat.S_ISLNK(one.st_mode):
        return "" if os.readlink(left) == os.readlink(right) else "another target"
    if stat.S_ISREG(one.st_mode):
        return (
            ""
            if one.st_size == other.st_size and filecmp.cmp(left, right, shallow=False)
            else "other contents"
        )
    return ""


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None
