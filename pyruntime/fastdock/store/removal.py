"""Taking names away, and images that have none left."""

from __future__ import annotations

from fastdock._errors import Conflict, SpecError
from fastdock.registry.reference import familiar, parse
from fastdock.store.record import ImageRecord

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    from fastdock.store.store import Store


def remove(store: Store, reference: str, force: bool) -> list[tuple[str, str]]:
    """:meth:`Store.remove`."""
    record = store.get(reference)
    if by_digest := _remove_digest(store, record, reference):
        return by_digest
    names, done = _names_to_remove(record, reference, force)
    gone = len(names) == len(record.names)
    if gone and not force and (holders := store.holders(record.id)):
        raise Conflict(
            f"image {familiar(reference)} is used by {', '.join(holders)}",
            hint="remove that first, or use --force",
        )
    with store.database.transaction() as connection:
        connection.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in names])
        if gone:
            connection.execute("DELETE FROM digests WHERE image_id = ?", (record.id,))
            connection.execute("UPDATE images SET removed = 1 WHERE id = ?", (record.id,))
    if gone:
        from fastdock.store import sweep

        done += [("Untagged", familiar(name)) for name in record.digests]
        done += [("Deleted", digest) for digest in sweep.sweep(store)]
    return done


def _remove_digest(store: Store, record: ImageRecord, reference: str) -> list[tuple[str, str]]:
    """Takes a name by digest away, if that is what ``reference`` is and the image has other names."""
    if "@" not in reference or len(record.names) + len(record.digests) < 2:
        return []
    name = parse(reference)
    store.database.execute(
        "DELETE FROM digests WHERE name = ? AND digest = ?", (name.repository, name.digest or "")
    )
    return [("Untagged", familiar(f"{name.repository}@{name.digest}"))]


def _names_to_remove(
    record: ImageRecord, reference: str, force: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    try:
        name = parse(reference)
    except SpecError:
        name = None
    if name and not name.digest and name.name in record.names:
        return [name.name], [("Untagged", familiar(name.name))]
    repositories = {name.rpartition(":")[0] for name in record.names}
    if len(repositories) > 1 and not force:
        raise Conflict(
            f"image {record.id[7:19]} has names in several repositories: "
            + ", ".join(map(familiar, record.names)),
            hint="remove it by name, or use --force",
        )
    return list(record.names), [("Untagged", familiar(name)) for name in record.names]
