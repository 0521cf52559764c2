"""The store's directory, its database and its locks."""

import os
import sqlite3
import stat
import threading

import pytest
from image_store import images

from fastdock._errors import FastdockError
from fastdock.store import Store, database
from fastdock.store.database import MIGRATIONS
from fastdock.store.locks import FileLock
from tests.system import make

__all__ = ["images"]  # a fixture


def test_everything_is_private(images, tmp_path):
    """0700 all the way: other users run no set-uid file out of a layer (CVE-2021-41091)."""
    make.image(images, "x:1")
    root = images.store.root
    for path in (
        root,
        *(os.path.join(root, name) for name in ("layers", "blobs", "staging", "ingest", "locks")),
    ):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    os.chmod(root, 0o755)
    os.unlink(os.path.join(root, "oci-layout"))
    Store(root)
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o700


def test_a_root_that_is_a_link_or_a_file(tmp_path):
    """Somebody else's link in a shared directory must not decide where state goes."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(FastdockError):
            Store(tmp_path / name)


def test_a_newer_database_is_left_alone(tmp_path):
    """A schema of the future is refused, not misread."""
    Store(tmp_path / "state").close()
    connection = sqlite3.connect(tmp_path / "state/fastdock.db")
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(FastdockError, match="newer fastdock"):
        Store(tmp_path / "state")


def test_a_damaged_database_is_an_error(tmp_path):
    """With its path."""
    Store(tmp_path / "state").close()
    (tmp_path / "state/fastdock.db").write_bytes(b"x" * 5000)
    with pytest.raises(FastdockError, match=r"fastdock\.db"):
        Store(tmp_path / "state")


def test_threads_and_forks(images):
    """One store object serves all threads, and a forked child."""
    make.image(images, "x:1")
    found = []
    threads = [threading.Thread(target=lambda: found.append(images.get("x:1").id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    child = os.fork()
    if not child:
        try:
            images.tag("x:1", "from:child")
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert "from:child" in images


def test_many_opens_at_once(tmp_path):
    """The directory and the schema are made once, by whoever is first."""
    problems = []

    def open_it():
        try:
            Store(tmp_path / "state").records()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_busy_database_says_so(tmp_path, monkeypatch):
    """Who waits for another writer waits for a while, then hears whom it waited for."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    store = Store(tmp_path / "state")
    other = sqlite3.connect(store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FastdockError, match="another process has been writing") as caught:
        store.database.execute("DELETE FROM names")
    assert "fuser" in caught.value.hint
    with pytest.raises(FastdockError, match="another process has been writing"), store.database.transaction():
        pass
    assert store.database.execute("SELECT count(*) FROM names").fetchone() == (0,)
    other.execute("ROLLBACK")
    other.close()
    with store.database.transaction() as connection:
        connection.execute("DELETE FROM names")


def test_a_connection_outlives_its_thread(tmp_path):
    kept = database.Database(str(tmp_path / "fastdock.db"))
    seen = [kept.connection]
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(kept.connection))
        thread.start()
        thread.join()
    assert seen[0] is not seen[1]
    assert seen[1] is seen[2]
    child = os.fork()
    if child == 0:  # what threads of the parent have left is not the child's to use
        taken = []
        thread = threading.Thread(target=lambda: taken.append(kept.connection))
        thread.start()
        thread.join()
        os._exit(0 if taken[0] not in seen else 1)
    assert os.waitpid(child, 0)[1] == 0
    kept.close()
    with pytest.raises(sqlite3.ProgrammingError):
        seen[1].execute("SELECT 1")


def test_the_stamp_is_the_same_after_what_is_unstamped(tmp_path):
    kept = database.Database(str(tmp_path / "fastdock.db"))
    before = kept.stamp()
    for unstamped in (True, False):
        with kept.transaction(unstamped=unstamped) as db:
            db.execute("INSERT INTO volumes VALUES (?, 0, 0, '{}', '{}')", (str(unstamped),))
        assert (kept.stamp() == before) is unstamped


# -- locks -------------------------------------------------------------------------------------------------


def test_locks_exclude(tmp_path):
    """Exclusive against shared and exclusive; the file goes with the last exclusive holder."""
    path = str(tmp_path / "lock")
    with FileLock(path):
        assert not FileLock(path).acquire(blocking=False)
        assert not FileLock(path, shared=True).acquire(blocking=False)
    assert not os.path.exists(path)
    with FileLock(path, shared=True), FileLock(path, shared=True):
        assert not FileLock(path).acquire(blocking=False)


def test_a_removed_lock_file_is_no_lock(tmp_path):
    """Who waited for a file that was removed meanwhile takes the new one."""
    path = str(tmp_path / "lock")
    counter = []

    def work():
        for _ in range(50):
            with FileLock(path):
                counter.append(len(counter))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter == list(range(200))
