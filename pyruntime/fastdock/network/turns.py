"""Write transactions that the threads of one process share."""

from __future__ import annotations

import _thread  # threading takes 1 ms to import
import contextlib
import fcntl
import os
from collections import deque

from fastdock._errors import FastdockError
from fastdock.store.paths import is_rootless

TYPE_CHECKING = False  # see fastdock._light
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, TypeVar

    from fastdock.store.database import Database

    T = TypeVar("T")


@contextlib.contextmanager
def transaction(database: Database, run_directory: str) -> Iterator[sqlite3.Connection]:
    """A write transaction of the networks' tables, entered in turn.

    SQLite's own waiting is sleeping and trying again, up to 100 ms at a time: when many containers start at
    once that costs more than everything else.  The lock's waiters are woken by the kernel instead.
    """
    path = f"{run_directory}/networks.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(run_directory, 0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with database.transaction(unstamped=True) as db:
            yield db
            _follow_ports(db)
    except BaseException:
        with contextlib.suppress(FastdockError):  # the first error is the one to tell
            _follow_ports(database.connection)
        raise
    finally:
        os.close(fd)


def _follow_ports(db: sqlite3.Connection) -> None:
    if is_rootless():
        from . import forwarding

        forwarding.follow(db)


class _Request:
    """Something to do, and what became of it."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = False
        self.withdrawn = False  # its thread was interrupted
        self.result: Any = None
        self.error: Exception | None = None


class Turns:
    """Whoever gets the turn does, in one transaction, what all who wait for it want.

    A transaction is a lock between processes, and each page that it changes is written once: of sixteen threads
    that start containers at once, one does the work of nearly all.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._transaction = transaction
        self._renew()

    def _renew(self) -> None:
        self._pid, self._state = os.getpid(), (_thread.allocate_lock(), deque[_Request]())

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does ``work`` in a transaction, maybe in another thread, and twice: then the first time was taken back."""
        if self._pid != os.getpid():  # in a forked child nobody lets go of the lock that a thread had
            self._renew()
        turn, waiting = self._state
        request = _Request(work)
        waiting.append(request)
        try:
            with turn:
                if not request.done:
                    self._serve(waiting)
        except BaseException:
            request.withdrawn = True
            raise
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[no-any-return]

    def _serve(self, waiting: deque[_Request]) -> None:
        batch = [
            request for request in (waiting.popleft() for _ in range(len(waiting))) if not request.withdrawn
        ]
        try:
            if len(batch) == 1 or not self._all_at_once(batch):
                for request in batch:
                    self._alone(request)
        except BaseException:  # of this thread, not of the others' work: somebody else does it
            waiting.extendleft(reversed([request for request in batch if not request.done]))
            raise

    def _all_at_once(self, batch: list[_Request]) -> bool:
        """False: somebody's work fails, and nothing was done."""
        try:
            with self._transaction() as db:
                results = [request.work(db) for request in batch]
        except Exception:
            return False
        for request, result in zip(batch, results, strict=True):
            request.result, request.done = result, True
        return True

    def _alone(self, request: _Request) -> None:
        try:
            with self._transaction() as db:
                request.result = request.work(db)
        except Exception as error:
            request.error = error
        request.done = True
