"""A new version on what an older one has left: its database is brought up to date, and nothing in it is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from fastdock._errors import FastdockError
from fastdock.containers.records import Record, Records
from fastdock.store import Store
from fastdock.store.database import MIGRATIONS

OLD = (Path(__file__).parent / "schema_2.sql").read_text()


@pytest.fixture
def old_root(tmp_path: Path) -> Path:
    """A state directory whose database is of the version 2."""
    root = tmp_path / "state"
    Store(root).close()
    for path in root.glob("fastdock.db*"):
        path.unlink()
    connection = sqlite3.connect(root / "fastdock.db")
    connection.executescript(OLD)
    connection.close()
    return root


def schema_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table's columns, and the triggers: what a statement can rely on."""
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: connection.execute(f"PRAGMA table_xinfo({name})").fetchall() for name in tables}
    found["triggers"] = connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name"
    ).fetchall()
    connection.close()
    return found


def test_an_older_database_is_brought_up_to_date(old_root: Path, tmp_path: Path) -> None:
    store = Store(old_root)
    assert store.database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    Store(tmp_path / "new").close()
    assert schema_of(old_root / "fastdock.db") == schema_of(tmp_path / "new/fastdock.db")
    assert store.find_id("old") == "sha256:aa"
    assert store.database.execute("SELECT name, labels FROM networks").fetchall() == [("mine", '{"a":"b"}')]
    records = Records(store.database, str(old_root / "containers"))
    records.add(Record("ff", "first", "sha256:aa", 1.0, -1, False, {"image": "old", "command": ["sh"]}))
    assert records.get("first").id == "ff"


def _open(root: Path, results: multiprocessing.Queue[object]) -> None:
    try:
        results.put(Store(root).find_id("old"))
    except BaseException as error:
        results.put(repr(error))


def test_several_bring_it_up_to_date_at_once(old_root: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=_open, args=(old_root, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == ["sha256:aa"] * 4
    for process in processes:
        process.join()


def test_a_migration_that_fails_leaves_it_as_it_was(old_root: Path) -> None:
    """Here somebody else's table is in the way."""
    connection = sqlite3.connect(old_root / "fastdock.db")
    connection.execute("CREATE TABLE volumes (mine TEXT)")
    connection.commit()
    with pytest.raises(FastdockError, match=r"fastdock\.db"):
        Store(old_root)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'containers'").fetchone() == (
        0,
    )
    connection.close()


def test_a_newer_one_says_what_to_do(old_root: Path) -> None:
    connection = sqlite3.connect(old_root / "fastdock.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(FastdockError, match=r"newer fastdock \(schema 99") as raised:
        Store(old_root)
    assert "upgrade fastdock" in raised.value.hint
