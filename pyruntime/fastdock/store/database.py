"""The one database file: connections, transactions and the schema's migrations.

SQLite in WAL mode: any number of processes read while one writes.  A commit survives the death of any
process; with synchronous=NORMAL a power cut may lose the last commits, never consistency
(sqlite.org/pragma.html#pragma_synchronous).  What must be durable before it is recorded (blobs) is fsynced by
its writer.
"""

from __future__ import annotations

import _thread  # threading itself takes 4 ms to import
import os

from fastdock._errors import FastdockError
from fastdock._light import sqlite3

TYPE_CHECKING = False  # see _light
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another one
LOG_PAGES = 250
"""At how many pages a commit writes the log back.  With nobody else there, who opens the database reads the whole
log: 0.4 ms for 100 pages.  Writing it back takes 15 ms and more.  A start on a bridge adds 8 pages."""

# One entry a version, in order: never edit one that was released, append the next.
MIGRATIONS: Sequence[str] = (
    # 1: images and their layers
    """
    CREATE TABLE images (
      id            TEXT PRIMARY KEY,          -- digest of the configuration
      manifest      TEXT NOT NULL,             -- digest of the manifest that it came with last
      document      TEXT NOT NULL,             -- the configuration, as JSON
      architecture  TEXT NOT NULL,
      created       TEXT NOT NULL,             -- RFC 3339, from the configuration
      size          INTEGER NOT NULL,          -- bytes of all layers, unpacked
      tagged        REAL NOT NULL,             -- seconds since the epoch: last time it got a name
      removed       INTEGER NOT NULL DEFAULT 0 -- removed, but a container still stands on it
    ) STRICT;
    CREATE TABLE names (
      name          TEXT PRIMARY KEY,          -- docker.io/library/busybox:latest
      image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX names_of_image ON names (image_id);
    CREATE TABLE digests (                     -- what a registry calls it: repository@digest
      name          TEXT NOT NULL,             -- docker.io/library/busybox
      digest        TEXT NOT NULL,
      image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      PRIMARY KEY (name, digest)
    ) STRICT;
    CREATE INDEX digests_of_image ON digests (image_id);
    CREATE TABLE layers (
      key           TEXT PRIMARY KEY,          -- name of the directory below layers/
      diff_id       TEXT NOT NULL,
      size          INTEGER NOT NULL,          -- bytes of its files
      entries       INTEGER NOT NULL,
      repairs       BLOB NOT NULL,             -- what only the layers below can complete (layers.py)
      boot          TEXT                       -- the boot that wrote it, and when, until that is on the disk
    ) STRICT;
    CREATE INDEX layers_unsettled ON layers (boot) WHERE boot IS NOT NULL;
    CREATE TABLE image_layers (
      image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      position      INTEGER NOT NULL,          -- 0 is the lowest
      key           TEXT NOT NULL REFERENCES layers,
      PRIMARY KEY (image_id, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_layers_by_key ON image_layers (key);
    CREATE TABLE image_blobs (                 -- every blob that the image needs: manifests, configuration, layers
      image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      digest        TEXT NOT NULL,
      PRIMARY KEY (image_id, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_blobs_by_digest ON image_blobs (digest);
    CREATE TABLE manifests (                   -- every manifest known for an image; they differ in compression
      digest        TEXT PRIMARY KEY,
      image_id      TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
      media_type    TEXT NOT NULL,
      from_registry INTEGER NOT NULL           -- a registry knows the image by this manifest
    ) STRICT;
    CREATE INDEX manifests_of_image ON manifests (image_id);
    CREATE TABLE layer_blobs (                 -- a blob that unpacks to a diff_id; verified here
      digest        TEXT PRIMARY KEY,
      diff_id       TEXT NOT NULL,
      size          INTEGER NOT NULL,
      media_type    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX layer_blobs_by_diff_id ON layer_blobs (diff_id);
    CREATE TABLE blob_sources (                -- repositories that have a blob: a push mounts it from there
      digest        TEXT NOT NULL,
      repository    TEXT NOT NULL,             -- docker.io/library/busybox
      PRIMARY KEY (digest, repository)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE holds (                       -- who needs an image to stay: "container:<id>"
      holder        TEXT PRIMARY KEY,
      image_id      TEXT NOT NULL REFERENCES images
    ) STRICT;
    CREATE INDEX holds_of_image ON holds (image_id);
    """,
    # 2: networks, and who has which of their addresses
    """
    CREATE TABLE networks (
      id            TEXT PRIMARY KEY,              -- 64 hexadecimal digits
      name          TEXT NOT NULL UNIQUE,
      driver        TEXT NOT NULL,                 -- bridge, macvlan
      device        TEXT NOT NULL,                 -- the bridge, or macvlan's parent
      internal      INTEGER NOT NULL,
      options       TEXT NOT NULL,                 -- JSON
      labels        TEXT NOT NULL,                 -- JSON
      created       REAL NOT NULL                  -- seconds since the epoch
    ) STRICT;
    CREATE TABLE network_subnets (
      network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
      version       INTEGER NOT NULL,              -- 4, 6
      subnet        TEXT NOT NULL,
      gateway       TEXT NOT NULL,
      ip_range      TEXT NOT NULL,                 -- what addresses are given out of
      free          BLOB NOT NULL,                 -- no address of the range below this one is free
      PRIMARY KEY (network_id, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE network_addresses (
      network_id    TEXT NOT NULL REFERENCES networks ON DELETE CASCADE,
      address       BLOB NOT NULL,                 -- 4 or 16 bytes, so that they sort
      container_id  TEXT NOT NULL,
      PRIMARY KEY (network_id, address)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX network_addresses_of ON network_addresses (container_id);
    CREATE TABLE network_ports (
      family        INTEGER NOT NULL,              -- AF_INET, AF_INET6
      protocol      TEXT NOT NULL,
      port          INTEGER NOT NULL,
      host          TEXT NOT NULL,                 -- '' is every address
      container_id  TEXT NOT NULL,
      PRIMARY KEY (family, protocol, port, host)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX network_ports_of ON network_ports (container_id);
    CREATE TABLE network_containers (              -- containers that have addresses
      container_id  TEXT PRIMARY KEY,
      name          TEXT NOT NULL,
      document      TEXT NOT NULL,                 -- JSON: endpoints, ports, egress, names (plan.py)
      owner         TEXT NOT NULL,                 -- "pid start-time" of who keeps it alive (details.py)
      resolver      INTEGER NOT NULL               -- uses fastdock's resolver
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE network_endpoints (
      network_id    TEXT NOT NULL REFERENCES networks,
      container_id  TEXT NOT NULL REFERENCES network_containers ON DELETE CASCADE,
      PRIMARY KEY (network_id, container_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX network_endpoints_of ON network_endpoints (container_id);
    """,
    # 3: containers that are kept, and volumes
    """
    CREATE TABLE containers (
      id            TEXT PRIMARY KEY,
      name          TEXT NOT NULL UNIQUE,
      image_id      TEXT NOT NULL,             -- digest of the configuration, or "builtin:host"
      created       REAL NOT NULL,             -- seconds since the epoch
      ids           INTEGER NOT NULL,          -- number of its range of user ids; -1: the host's
      auto_remove   INTEGER NOT NULL,          -- it goes when it ends
      document      TEXT NOT NULL              -- everything else, as JSON (containers/records.py)
    ) STRICT;
    CREATE INDEX containers_by_creation ON containers (created);
    CREATE TABLE volumes (
      name          TEXT PRIMARY KEY,
      created       REAL NOT NULL,
      anonymous     INTEGER NOT NULL,
      labels        TEXT NOT NULL,             -- JSON
      options       TEXT NOT NULL              -- JSON
    ) STRICT;
    CREATE TABLE volume_uses (
      volume        TEXT NOT NULL REFERENCES volumes,
      container     TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
      PRIMARY KEY (volume, container)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX volume_uses_by_container ON volume_uses (container);
    """,
    # 4: what a container has goes with it: one statement at each end instead of five
    """
    CREATE TRIGGER network_container_gone AFTER DELETE ON network_containers BEGIN
      DELETE FROM network_addresses WHERE container_id = old.container_id;
      DELETE FROM network_ports WHERE container_id = old.container_id;
    END;
    CREATE TRIGGER network_address_free AFTER DELETE ON network_addresses BEGIN
      UPDATE network_subnets SET free = min(free, old.address)
        WHERE network_id = old.network_id AND version = iif(length(old.address) = 4, 4, 6);
    END;
    """,
    # 5: what else a network was made with
    """
    ALTER TABLE networks ADD COLUMN more TEXT NOT NULL DEFAULT '{}';  -- JSON: model.Network.more
    """,
)


class _Connection:
    """A connection, and whose it is."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sqlite, self.pid = connection, os.getpid()
        self.unstamped = 0


class _Lease:
    """What a thread has of a connection.  When the thread ends, the next one that begins gets the connection.

    Opening one, reading the schema and compiling the statements anew takes longer than what a short-lived thread
    uses it for: starting one container.
    """

    def __init__(self, held: _Connection, idle: list[_Connection], inherited: list[_Connection]) -> None:
        self.held, self._idle, self._inherited = held, idle, inherited

    def __del__(self) -> None:
        if self.held.pid != os.getpid():
            self._inherited.append(self.held)  # of a thread that was not forked with this process
        elif len(self._idle) < _MAXIMUM_IDLE and not self.held.sqlite.in_transaction:
            self._idle.append(self.held)


_MAXIMUM_IDLE = 16


class Database:
    """Connections to one database file: one for each thread, opened when it is first used.

    A connection must not be carried over a fork (sqlite.org/howtocorrupt.html, 2.6): a forked child opens its
    own, and leaves the inherited ones alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = _thread._local()
        self._idle: list[_Connection] = []
        self._inherited: list[_Connection] = []  # kept, so that the child never closes them
        self._own()

    @property
    def connection(self) -> sqlite3.Connection:
        return self._own().sqlite

    def _own(self) -> _Connection:
        lease: _Lease | None = getattr(self._local, "lease", None)
        if lease is None or lease.held.pid != os.getpid():
            lease = self._local.lease = _Lease(self._take(), self._idle, self._inherited)
        return lease.held

    def _take(self) -> _Connection:
        """One that a thread has left, or a new one."""
        while True:
            try:
                held = self._idle.pop()
            except IndexError:
                return _Connection(self._connect())
            if held.pid == os.getpid():
                return held
            self._inherited.append(held)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs one statement outside any transaction of its own."""
        try:
            return self.connection.execute(statement, parameters)
        except sqlite3.OperationalError as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.OperationalError) -> FastdockError:
        """What is wrong with the file, or with its other users."""
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            said = f"another process has been writing to the database for {BUSY_TIMEOUT:g} seconds"
            hint = f"try again, or see who has it open: fuser {self.path}"
        else:
            said, hint = f"cannot use the database {self.path}: {error}", ""
        return FastdockError(said, operation="use database", path=self.path, hint=hint)

    def stamp(self) -> tuple[int, ...]:
        """The same as before in this thread: nobody has changed the database meanwhile, but for ``unstamped`` changes.

        ``data_version`` tells of other connections' changes, ``total_changes`` of this one's (sqlite.org/pragma).
        """
        own = self._own()
        (version,) = own.sqlite.execute("PRAGMA data_version").fetchone()
        return id(own), version, own.sqlite.total_changes - own.unstamped

    def transaction(self, *, unstamped: bool = False) -> _Transaction:
        """Around changes: all or nothing; waits for other writers up to BUSY_TIMEOUT.

        ``unstamped``: nothing that this thread keeps while the ``stamp`` is the same depends on what it changes.
        """
        return _Transaction(self, unstamped)

    def leave_open(self) -> None:
        """This process is about to end: the kernel closes this thread's connection, not SQLite.

        SQLite's last connection writes everything back from the log with two fsyncs and deletes it: 10 to 30 ms,
        a third of a whole ``fastdock run``.  Left alone, the log is read by who opens the database next, and
        written back when it has LOG_PAGES pages.  Nothing is lost either way (sqlite.org/wal.html, 4.5).
        """
        from fastdock import _core

        lease: _Lease | None = getattr(self._local, "lease", None)
        for held in (*self._idle, *([lease.held] if lease else ())):
            _core.keep_for_ever(held.sqlite)

    def close(self) -> None:
        """Closes this thread's connection and those that threads have left (others go with their threads)."""
        lease: _Lease | None = getattr(self._local, "lease", None)
        if lease is not None:
            del self._local.lease
        del lease  # now it is among the idle ones
        while self._idle:
            held = self._idle.pop()
            if held.pid == os.getpid():
                held.sqlite.close()
            else:
                self._inherited.append(held)

    def _connect(self) -> sqlite3.Connection:
        try:
            # Used by one thread at a time, if not always the same one.
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != len(MIGRATIONS):
                _migrate(connection, self.path)
        except sqlite3.DatabaseError as error:
            raise FastdockError(
                f"cannot open the database {self.path}: {error}", operation="open database", path=self.path
            ) from error
        return connection


class _Transaction:
    """See ``Database.transaction``."""

    def __init__(self, database: Database, unstamped: bool) -> None:
        self._database, self._unstamped = database, unstamped
        self._own = database._own()
        self._before = self._own.sqlite.total_changes

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._own.sqlite

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._own.sqlite.execute("ROLLBACK")
            return
        self._database.execute("COMMIT")
        if self._unstamped:
            self._own.unstamped += self._own.sqlite.total_changes - self._before


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    """Brings the schema up to date; several processes may try at once, one does."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise FastdockError(
                f"{path} was written by a newer fastdock (schema {version}, this one knows {len(MIGRATIONS)})",
                path=path,
                hint="upgrade fastdock, or use another --root",
            )
        for number in range(version, len(MIGRATIONS)):
            for statement in _statements(MIGRATIONS[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    except BaseException:
        connection.execute("ROLLBACK")
        connection.close()
        raise
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The script's statements; executescript() would commit the transaction it runs in."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
