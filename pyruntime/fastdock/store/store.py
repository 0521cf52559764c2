"""The store: opening it, finding images, names, and who holds an image."""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Sequence

from fastdock import _core
from fastdock._errors import ImageNotFound, SpecError
from fastdock._light import sqlite3
from fastdock.registry.reference import parse, split
from fastdock.store.blobs import BlobStore
from fastdock.store.database import Database
from fastdock.store.layers import LayerStore, is_whole
from fastdock.store.locks import FileLock, lease_path
from fastdock.store.paths import make_private, run_directory
from fastdock.store.record import ImageRecord

_DIRECTORIES = ("blobs", "blobs/sha256", "layers", "ingest", "staging", "locks")
_COLUMNS = "id, document, architecture, manifest, size, tagged"


class Store:
    """The images below one state directory.

    Any number of processes and threads may use one directory at once, and be killed at any moment.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        if not os.path.exists(os.path.join(self.root, "oci-layout")):
            self._create()
        self.database = Database(os.path.join(self.root, "fastdock.db"))
        self.blobs = BlobStore(self.root)
        self.layers = LayerStore(self.root, self.database, self.blobs)

    def _create(self) -> None:
        make_private(self.root)
        for name in _DIRECTORIES:
            make_private(os.path.join(self.root, name))
        # Written last and renamed: its presence says that all the directories are there.
        temporary = os.path.join(self.root, f".oci-layout-{os.getpid()}-{_thread.get_ident()}")
        with open(temporary, "w") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')
        os.rename(temporary, os.path.join(self.root, "oci-layout"))

    @property
    def run_directory(self) -> str:
        """Where what is running keeps its pid, socket and status (tmpfs); created 0700."""
        return run_directory(self.root)

    def close(self) -> None:
        """Closes this thread's database connection."""
        self.database.close()

    # -- finding -------------------------------------------------------------------------------------------

    def get(self, reference: str) -> ImageRecord:
        """The image that a name, a name by digest, an ID or the beginning of an ID stands for.

        Raises ImageNotFound, or SpecError where the reference is malformed or the beginning is that of several.
        """
        image_id = self.find_id(reference)
        if image_id is None:
            parse(reference)  # a malformed reference gets its own error
            raise ImageNotFound(f"no such image: {reference}", hint=f"fastdock pull {reference}")
        return self._record(image_id)

    def find_id(self, reference: str) -> str | None:
        """The ID of the image that ``reference`` stands for, or None; SpecError where it is ambiguous."""
        digits = _digits_of(reference)
        if len(digits) == 64:
            return self._one("SELECT id FROM images WHERE id = ? AND NOT removed", "sha256:" + digits)
        name = split(reference)  # its grammar was checked when it came in
        if name.digest:
            by_digest = "SELECT image_id FROM digests WHERE name = ? AND digest = ?"
            return self._one(by_digest, name.repository, name.digest)
        if found := self._one("SELECT image_id FROM names WHERE name = ?", name.name):
            return found
        if len(digits) < 2:
            return None
        prefix = "sha256:" + digits
        rows = self.database.execute(
            "SELECT id FROM images WHERE id >= ? AND id < ? AND NOT removed LIMIT 2", (prefix, prefix + "g")
        ).fetchall()
        if len(rows) > 1:
            raise SpecError(
                f"{reference} is the beginning of more than one image's ID", hint="give more digits"
            )
        return rows[0][0] if rows else None

    def records(self) -> list[ImageRecord]:
        """All images, the last tagged first."""
        rows = self.database.execute("SELECT id FROM images WHERE NOT removed ORDER BY tagged DESC, id")
        return [self._record(image_id) for (image_id,) in rows.fetchall()]

    def names_in(self, repository: str) -> list[str]:
        """The full names by tag in a repository that is given without a tag; none if ``repository`` has one."""
        try:
            name = parse(repository)
        except SpecError:
            return []
        if name.digest or repository.endswith(f":{name.tag}"):
            return []
        rows = self.database.execute(
            "SELECT name FROM names WHERE substr(name, 1, ?) = ? ORDER BY name",
            (len(name.repository) + 1, name.repository + ":"),
        )
        return [found for (found,) in rows.fetchall()]

    def layer_size(self, path: str) -> int:
        """The bytes of the layer in a directory of ``ImageRecord.layer_paths``."""
        row = self.database.execute(
            "SELECT size FROM layers WHERE key = ?", (os.path.basename(path),)
        ).fetchone()
        return int(row[0]) if row else 0

    def bytes_used(self) -> int:
        """The bytes of all blobs and unpacked layers."""
        (layers,) = self.database.execute("SELECT coalesce(sum(size), 0) FROM layers").fetchone()
        return int(layers) + sum(self.blobs.size(digest) for digest in self.blobs.digests())

    def _one(self, statement: str, *parameters: str) -> str | None:
        row = self.database.execute(statement, parameters).fetchone()
        return row[0] if row else None

    def _record(self, image_id: str) -> ImageRecord:
        execute = self.database.execute
        row = execute(f"SELECT {_COLUMNS} FROM images WHERE id = ?", (image_id,)).fetchone()
        if row is None:  # removed since we looked
            raise ImageNotFound(f"no such image: {image_id}")
        names = execute("SELECT name FROM names WHERE image_id = ? ORDER BY name", (image_id,)).fetchall()
        digests = execute("SELECT name, digest FROM digests WHERE image_id = ? ORDER BY 1, 2", (image_id,))
        layers = execute(
            "SELECT i.key, l.boot FROM image_layers i JOIN layers l USING (key) "
            "WHERE i.image_id = ? ORDER BY i.position",
            (image_id,),
        ).fetchall()
        document = _core.parse_json(row[1])
        if not all(is_whole(boot) for _, boot in layers):
            keys = self._recover(image_id, document["rootfs"]["diff_ids"])
        else:
            keys = [key for key, _ in layers]
        return ImageRecord(
            id=row[0],
            names=tuple(name for (name,) in names),
            digests=tuple(f"{name}@{digest}" for name, digest in digests),
            document=document,
            layer_paths=[self.layers.path(key) for key in keys],
            architecture=row[2],
            manifest=row[3],
            size=row[4],
            tagged=row[5],
        )

    def _recover(self, image_id: str, diff_ids: list[str]) -> list[str]:
        """Unpacks again the layers that a reboot found perhaps unwritten."""
        with self.writing():
            for diff_id in diff_ids:
                if self.layers.find_diff(diff_id) is None:
                    self.layers.unpack_blob(self.blob_of_layer(diff_id), diff_id)
            return self.layers.chain(diff_ids)

    def blob_of_layer(self, diff_id: str) -> str:
        """The digest of a blob that is here and unpacks to ``diff_id``; ImageNotFound if there is none."""
        rows = self.database.execute(
            "SELECT digest FROM layer_blobs WHERE diff_id = ? ORDER BY rowid", (diff_id,)
        ).fetchall()
        for (digest,) in rows:
            if self.blobs.has(digest):
                return str(digest)
        raise ImageNotFound(f"no blob of layer {diff_id} is here", hint="pull the image again")

    def _is_blob_of(self, digest: str, diff_id: str) -> bool:
        """Whether the blob is here and was seen to unpack to ``diff_id``."""
        known = "SELECT digest FROM layer_blobs WHERE digest = ? AND diff_id = ?"
        return self.blobs.has(digest) and self._one(known, digest, diff_id) is not None

    # -- changing ------------------------------------------------------------------------------------------

    def writing(self) -> _Writing:
        """Around everything that adds blobs or layers: as long as anybody is here, nothing is swept.

        The first to come in clears away what dead processes left, the last to leave sweeps what removals
        left behind meanwhile.
        """
        return _Writing(self)

    @property
    def writers_lock(self) -> str:
        return os.path.join(self.root, "locks", "writers")

    @property
    def sweep_wanted(self) -> str:
        """A file that says: something was removed while somebody was writing."""
        return os.path.join(self.root, "locks", "sweep-wanted")

    def add_image(
        self,
        *,
        config: bytes,
        manifest: bytes,
        media_type: str,
        name: str | None = None,
        digest_names: Sequence[tuple[str, str]] = (),
        extra_blobs: Sequence[str] = (),
    ) -> ImageRecord:
        """Records an image whose layers are here, and gives it its names, in one transaction.

        Call within :meth:`writing`.  ``name`` is a full name by tag, taken away from whatever image has it;
        ``digest_names`` are (repository, digest) pairs; ``extra_blobs`` are kept as long as the image is.
        """
        from fastdock.store.blobs import digest_of
        from fastdock.store.manifest import Manifest, parse_config, parse_manifest

        checked = parse_config(config)
        parsed = parse_manifest(manifest, media_type)
        assert isinstance(parsed, Manifest)
        image_id = digest_of(config)
        manifest_digest = digest_of(manifest)
        keys = self.layers.chain(checked.rootfs.diff_ids)
        blobs = {self.blobs.write(config), self.blobs.write(manifest), *extra_blobs}
        for layer, diff_id in zip(parsed.layers, checked.rootfs.diff_ids, strict=True):
            blobs.add(layer.digest)
            if not self._is_blob_of(
                layer.digest, diff_id
            ):  # another blob of the same tar keeps the image whole
                try:
                    blobs.add(self.blob_of_layer(diff_id))
                except ImageNotFound:
                    pass
        now = time.time()
        with self.database.transaction() as connection:
            (size,) = connection.execute(
                f"SELECT coalesce(sum(size), 0) FROM layers WHERE key IN ({','.join('?' * len(keys))})", keys
            ).fetchone()
            connection.execute(
                "INSERT INTO images (id, manifest, document, architecture, created, size, tagged) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest, "
                "removed = 0",
                (
                    image_id,
                    manifest_digest,
                    config.decode(),
                    checked.architecture,
                    checked.created or "",
                    size,
                    now,
                ),
            )
            connection.execute("DELETE FROM image_layers WHERE image_id = ?", (image_id,))
            connection.executemany(
                "INSERT INTO image_layers VALUES (?, ?, ?)",
                [(image_id, i, key) for i, key in enumerate(keys)],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_blobs VALUES (?, ?)",
                [(image_id, digest) for digest in sorted(blobs)],
            )
            connection.execute(
                "INSERT INTO manifests VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET from_registry = max(from_registry, excluded.from_registry)",
                (manifest_digest, image_id, parsed.media_type, bool(digest_names)),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?)",
                [(*pair, image_id) for pair in digest_names],
            )
            if name:
                _forget_digests(connection, name, image_id)
                connection.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, image_id))
                connection.execute("UPDATE images SET tagged = ? WHERE id = ?", (now, image_id))
        return self._record(image_id)

    def add_manifest(self, image_id: str, data: bytes, media_type: str, blobs: Sequence[str]) -> None:
        """Keeps one more manifest of an image, and the blobs that it needs."""
        digest = self.blobs.write(data)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO manifests VALUES (?, ?, ?, 0)", (digest, image_id, media_type)
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_blobs VALUES (?, ?)",
                [(image_id, blob) for blob in (digest, *blobs)],
            )

    def record_push(self, image_id: str, manifest: str, repository: str) -> None:
        """Remembers that a repository has the image under this manifest."""
        with self.database.transaction() as connection:
            connection.execute("UPDATE manifests SET from_registry = 1 WHERE digest = ?", (manifest,))
            connection.execute(
                "INSERT OR REPLACE INTO digests SELECT ?, ?, id FROM images WHERE id = ?",
                (repository, manifest, image_id),
            )

    def is_from_registry(self, manifest: str) -> bool:
        """Whether a registry knows an image by this manifest."""
        return (
            self._one("SELECT digest FROM manifests WHERE digest = ? AND from_registry", manifest) is not None
        )

    def record_blob(self, digest: str, diff_id: str, size: int, media_type: str) -> None:
        """Remembers that a blob was seen to unpack to ``diff_id``."""
        self.database.execute(
            "INSERT OR IGNORE INTO layer_blobs VALUES (?, ?, ?, ?)", (digest, diff_id, size, media_type)
        )

    def record_source(self, digest: str, repository: str) -> None:
        """Remembers that a registry's repository has a blob."""
        self.database.execute("INSERT OR IGNORE INTO blob_sources VALUES (?, ?)", (digest, repository))

    def blob_sources(self, digest: str) -> list[str]:
        """The repositories that are known to have a blob."""
        rows = self.database.execute(
            "SELECT repository FROM blob_sources WHERE digest = ? LIMIT 8", (digest,)
        )
        return [repository for (repository,) in rows.fetchall()]

    def tag(self, source: str, target: str) -> ImageRecord:
        """Gives the image ``source`` the name ``target`` too, taking it from whichever image has it."""
        name = parse(target)
        if name.digest:
            raise SpecError(f"{target}: a name by digest cannot be given", hint="give a tag")
        image_id = self.get(source).id
        with self.database.transaction() as connection:
            _forget_digests(connection, name.name, image_id)
            connection.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name.name, image_id))
            connection.execute("UPDATE images SET tagged = ? WHERE id = ?", (time.time(), image_id))
        return self._record(image_id)

    def remove(self, reference: str, *, force: bool = False) -> list[tuple[str, str]]:
        """Takes a name away, and the image too if that was its last one.

        By ID, the image goes with all its names; Conflict without ``force`` if it has several.  Conflict, too,
        where a container stands on it; with ``force`` the names go, and the rest once the container has.
        Returns what happened, in Docker's words: ("Untagged", name) and ("Deleted", digest).
        """
        from fastdock.store.removal import remove

        return remove(self, reference, force)

    # -- holding -------------------------------------------------------------------------------------------

    def hold(self, holder: str, image_id: str) -> None:
        """Keeps an image, its layers and blobs, for ``holder`` ("container:<id>"), until it is released."""
        cursor = self.database.execute(
            "INSERT OR REPLACE INTO holds SELECT ?, id FROM images WHERE id = ? AND NOT removed",
            (holder, image_id),
        )
        if cursor.rowcount != 1:
            raise ImageNotFound(f"no such image: {image_id}")

    def release(self, holder: str) -> None:
        """Ends a hold; what it alone kept goes."""
        row = self.database.execute(
            "DELETE FROM holds WHERE holder = ? RETURNING (SELECT removed FROM images WHERE id = image_id)",
            (holder,),
        ).fetchall()
        if row and row[0][0]:
            from fastdock.store import sweep

            sweep.sweep(self)

    def holders(self, image_id: str) -> list[str]:
        """Who holds the image."""
        rows = self.database.execute("SELECT holder FROM holds WHERE image_id = ? ORDER BY 1", (image_id,))
        holders = [holder for (holder,) in rows.fetchall()]
        from fastdock.store import sweep

        return holders + ["a running container"] * sweep.is_leased(self, image_id)

    def lease(self, image_id: str) -> int:
        """Keeps an image for as long as the descriptor that is returned is open, in whichever process.

        For what is thrown away: it costs no database write and ends with the process (flock(2)).
        """
        lock = FileLock(lease_path(self.root, image_id), shared=True)
        lock.acquire()
        if self._one("SELECT id FROM images WHERE id = ? AND NOT removed", image_id) is None:
            lock.release()
            raise ImageNotFound(f"no such image: {image_id}")
        return lock.detach()


class _Writing:
    """See ``Store.writing``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = FileLock(store.writers_lock, shared=True)

    def __enter__(self) -> None:
        from fastdock.store import sweep

        sweep.sweep_leftovers(self._store)
        self._lock.acquire()
        self._store.layers.settle_meanwhile()

    def __exit__(self, kind: object, *_: object) -> None:
        from fastdock.store import sweep

        self._lock.release()
        if kind is None and os.path.exists(self._store.sweep_wanted):
            sweep.sweep(self._store)


def _digits_of(reference: str) -> str:
    """The hexadecimal digits of an image's ID or its beginning; empty if it is something else."""
    digits = reference.removeprefix("sha256:")
    return "" if len(digits) > 64 or digits.strip("0123456789abcdef") else digits


def _forget_digests(connection: sqlite3.Connection, name: str, image_id: str) -> None:
    """An image that loses its last name to another loses its names by digest too: it dangles, and is pruned."""
    connection.execute(
        "DELETE FROM digests WHERE image_id = (SELECT image_id FROM names WHERE name = ?) AND image_id != ? "
        "AND (SELECT count(*) FROM names n WHERE n.image_id = digests.image_id) = 1",
        (name, image_id),
    )
