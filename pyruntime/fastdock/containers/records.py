"""What is known of each container that is kept: the rows of the database.

A row stands for a container exactly as long as its directory ``containers/<id>`` exists: the directory is made
before the row and removed before it.  So whoever removes a container (also a monitor, which knows no database,
for ``--rm``) removes the directory, and the row is dropped by whoever notices next.
"""

from __future__ import annotations

import os

from fastdock import _core
from fastdock._errors import Conflict, ContainerNotFound
from fastdock._light import NamedTuple, sqlite3

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fastdock.store.database import Database

_COLUMNS = "id, name, image_id, created, ids, auto_remove, document"


class Record(NamedTuple):
    """A container as it was asked for; what it is doing is in its state (state.py)."""

    id: str
    name: str
    image_id: str
    created: float
    """Seconds since the epoch."""
    ids: int
    """The number of its range of user ids; -1: the host's ids."""
    auto_remove: bool
    document: dict[str, Any]
    """``image``, ``args``, ``options`` (of RunOptions), ``config`` (of Settings): see creation.py."""

    @property
    def image(self) -> str:
        """The image's name, as it was given."""
        return str(self.document["image"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.document.get("labels") or {})

    @property
    def is_foreground(self) -> bool:
        """It is no row, but in the foreground of a command: foreground.py."""
        return "owner" in self.document

    @property
    def command(self) -> list[str]:
        return list(self.document["command"])


class Records:
    """The table of containers."""

    def __init__(self, database: Database, directory: str) -> None:
        self._database = database
        self._directory = directory

    def add(self, record: Record, volumes: Sequence[str] = ()) -> None:
        """Within the caller's transaction.  Conflict: another container has the name."""
        document = _core.dump_json(record.document)
        row = (
            record.id,
            record.name,
            record.image_id,
            record.created,
            record.ids,
            record.auto_remove,
            document,
        )
        try:
            self._database.execute(f"INSERT INTO containers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            for volume in volumes:
                self._database.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (volume, record.id))
        except sqlite3.IntegrityError as error:
            raise self._taken(record.name, error) from None

    def _taken(self, name: str, error: sqlite3.IntegrityError) -> Exception:
        row = self._database.execute("SELECT id FROM containers WHERE name = ?", (name,)).fetchone()
        if row is None:
            return Conflict(f"cannot record the container: {error}")
        return Conflict(
            f'the container name "/{name}" is already in use by container "{row[0]}"',
            hint="remove or rename that container, or use another name",
        )

    def all(self) -> list[Record]:
        """The newest first."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM containers ORDER BY created DESC, id"
        ).fetchall()
        # One parse of all is quicker than one of each.
        documents = _core.parse_json(f"[{','.join(row[-1] for row in rows)}]")
        return [_record(row, document) for row, document in zip(rows, documents, strict=True)]

    def get(self, reference: str) -> Record:
        """By id, name, or beginning of an id.  ContainerNotFound; Conflict where several ids begin so."""
        reference = reference.removeprefix("/")
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM containers WHERE name = ? OR id = ? "
            # LIKE and GLOB have wildcards; a range uses the index.
            "OR (id >= ? AND id < ?) ORDER BY id = ? DESC, name = ? DESC LIMIT 3",
            (reference, reference, reference, reference + "g", reference, reference),
        ).fetchall()
        records = [_record(row) for row in rows]
        exact = [record for record in records if reference in (record.id, record.name)]
        prefixed = [record for record in records if reference and record.id.startswith(reference)]
        if exact:
            return exact[0]
        if len(prefixed) > 1:
            raise Conflict(f"several containers' ids begin with {reference}", hint="give more digits")
        if not prefixed:
            raise ContainerNotFound(f"no such container: {reference}")
        return prefixed[0]

    def now(self, known: Record) -> Record | None:
        """What the row of a container says now, of which nothing else ever changes; None: it is gone."""
        row = self._database.execute(
            "SELECT name, document FROM containers WHERE id = ?", (known.id,)
        ).fetchone()
        if row is None:
            return None
        name, text = row
        # The same document stays the same object: what was read of it once holds (creation.Asked).
        document = known.document if text == _core.dump_json(known.document) else _core.parse_json(text)
        return known._replace(name=name, document=document)

    def drop(self, container_id: str) -> bool:
        """False: it was gone already."""
        return self._database.execute("DELETE FROM containers WHERE id = ?", (container_id,)).rowcount == 1

    def rename(self, container_id: str, name: str) -> None:
        """Conflict: another container has the name."""
        try:
            self._database.execute("UPDATE containers SET name = ? WHERE id = ?", (name, container_id))
        except sqlite3.IntegrityError as error:
            raise self._taken(name, error) from None

    def change(self, container_id: str, changes: dict[str, Any]) -> None:
        """Replaces members of the document, in one transaction."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT document FROM containers WHERE id = ?", (container_id,)
            ).fetchone()
            if row is None:
                raise ContainerNotFound(f"no such container: {container_id}")
            document = {**_core.parse_json(row[0]), **changes}
            connection.execute(
                "UPDATE containers SET document = ? WHERE id = ?",
                (_core.dump_json(document), container_id),
            )

    def ids(self) -> set[str]:
        return {row[0] for row in self._database.execute("SELECT id FROM containers").fetchall()}

    def is_there(self, container_id: str) -> bool:
        """Whether the container's directory is there: otherwise it is removed, and its row a leftover."""
        return os.path.isdir(os.path.join(self._directory, container_id))


def _record(row: tuple[Any, ...], document: dict[str, Any] | None = None) -> Record:
    container_id, name, image_id, created, ids, auto_remove, text = row
    return Record(
        container_id, name, image_id, created, ids, bool(auto_remove), document or _core.parse_json(text)
    )
