"""Transactions that threads share, and the claim on a container's files."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastdock.network import details
from fastdock.network.turns import Turns
from fastdock.store.database import Database


class Counted:
    """A real database, and how many transactions there were."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(str(directory / "fastdock.db"))
        self.begun = 0
        self.turns = Turns(self._transaction)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.begun += 1
        with self.database.transaction() as db:
            yield db

    def names(self) -> set[str]:
        return {name for (name,) in self.database.execute("SELECT name FROM volumes")}


def insert(name: str) -> Callable[[sqlite3.Connection], str]:
    def work(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO volumes VALUES (?, 0, 0, '{}', '{}')", (name,))
        return name

    return work


def run_behind(counted: Counted, works: list[Callable[[sqlite3.Connection], str]]) -> list[object]:
    """Each work's result or error, all of them begun while one has the turn and waits for them to queue."""

    def first(db: sqlite3.Connection) -> None:
        begun.set()
        while len(counted.turns._state[1]) < len(works):
            pass

    def run(number: int) -> None:
        try:
            outcomes[number] = counted.turns.run(works[number])
        except Exception as error:
            outcomes[number] = error

    begun = threading.Event()
    outcomes: list[object] = [None] * len(works)
    threads = [threading.Thread(target=counted.turns.run, args=(first,))]
    threads += [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    threads[0].start()
    begun.wait()
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_who_waits_shares_one_transaction(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    names = [f"v{number}" for number in range(7)]
    assert run_behind(counted, [insert(name) for name in names]) == names
    assert counted.names() == set(names)
    assert counted.begun == 2


def test_who_fails_fails_alone(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    one, other, same = run_behind(counted, [insert("a"), insert("b"), insert("a")])
    assert other == "b"
    assert sorted(type(outcome).__name__ for outcome in (one, same)) == ["IntegrityError", "str"]
    assert counted.names() == {"a", "b"}


def test_an_interrupt_is_its_own_threads(tmp_path: Path) -> None:
    counted = Counted(tmp_path)

    def interrupted(db: sqlite3.Connection) -> str:
        insert("lost")(db)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counted.turns.run(interrupted)
    assert counted.turns.run(insert("next")) == "next"
    assert counted.names() == {"next"}


def test_a_forked_child_does_not_wait_for_its_parents_threads(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    has_turn, go_on = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        has_turn.set()
        go_on.wait()

    holder = threading.Thread(target=counted.turns.run, args=(hold,))
    holder.start()
    has_turn.wait()
    child = os.fork()
    if child == 0:
        # Its transaction is of another database: this one's is open in the parent.
        counted.turns._transaction = Counted(other)._transaction
        os._exit(0 if counted.turns.run(insert("of the child")) == "of the child" else 1)
    _, status = os.waitpid(child, 0)
    go_on.set()
    holder.join()
    assert status == 0


def test_claimed_and_used_files_stay(tmp_path: Path) -> None:
    prefix = details.files_prefix(str(tmp_path), "c" * 64)
    claim = details.claim_files(prefix)
    for name in details.FILES[1:]:
        Path(prefix + name).touch()
    assert details.files_owners(str(tmp_path)) == {"c" * 64}
    details.sweep_files(prefix, lambda: False)
    assert Path(prefix + "hosts").exists()
    os.close(claim)
    details.sweep_files(prefix, lambda: True)
    assert Path(prefix + "hosts").exists()
    details.sweep_files(prefix, lambda: False)
    assert details.files_owners(str(tmp_path)) == set()


def test_the_rest_of_files_that_were_removed_halfway(tmp_path: Path) -> None:
    prefix = details.files_prefix(str(tmp_path), "c" * 64)
    os.close(details.claim_files(prefix))
    Path(prefix + "hostname").touch()
    os.unlink(prefix + "hosts")
    details.sweep_files(prefix, lambda: False)
    assert details.files_owners(str(tmp_path)) == set()
