"""The SQLite file of a store: opening, locking, checking, and the few statements that know its tables.

    log(revision, key, value, create_revision, prev_revision, deleted)     one row per write; the newest row of a key
    meta(name, value)                                                      is its state

A file that is corrupt, of another program or of a newer podnet is refused with a sentence that says so and names it; a
second process is turned away by a lock that dies with its holder.
Source: sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous, flock(2).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from podnet.controlplane.store.state import FIRST_REVISION, prefix_end
from podnet.controlplane.store.types import Event, KeyValue, StoreOpenError

FILE_NAME = "store.db"
LOCK_NAME = "store.lock"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x706F646E  # "podn"

Synchronous = Literal["NORMAL", "FULL"]
Row = tuple[int, str, bytes | None, int, int, int]

_TABLES = """
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  value BLOB,
  create_revision INTEGER NOT NULL,
  prev_revision INTEGER NOT NULL,
  deleted INTEGER NOT NULL
);
CREATE INDEX log_key ON log (key, revision);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_LAST_KEY = "\U0010ffff" * 8  # after every key a store is given


def lock(directory: Path) -> int:
    """Take the directory for this process; returns the descriptor to close. Raises StoreOpenError."""
    path = directory / LOCK_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreOpenError(f"cannot open store {directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StoreOpenError(f"store {directory} is in use by another process (pid {holder})") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def connect(directory: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """The writer's connection, with tables made or checked. Raises StoreOpenError."""
    path = directory / FILE_NAME
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # secrets live in it: never by umask
    except OSError as error:
        raise StoreOpenError(f"cannot open store {path}: {error.strerror}") from error
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        _prepare(connection, path, synchronous)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def unusable(path: Path, error: sqlite3.DatabaseError) -> StoreOpenError:
    """What to tell the user: the operating system refused, or the bytes are wrong."""
    if isinstance(error, sqlite3.OperationalError):
        return StoreOpenError(f"cannot open store {path}: {error}")
    return StoreOpenError(f"store {path} is corrupt: {error}; move it away or put a good copy in its place")


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application != APPLICATION_ID or not {"log", "meta"} <= tables:
            raise StoreOpenError(f"store {path} is an SQLite file of another program")
        if version != SCHEMA_VERSION:
            raise StoreOpenError(f"store {path} has format {version}, this podnet reads format {SCHEMA_VERSION}")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise unusable(path, sqlite3.DatabaseError(problem.splitlines()[-1]))  # after a heading
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if not tables:
        # One transaction: a crash in between leaves an empty file, which is a new store.
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; {_TABLES} COMMIT;"
        )


def connect_reader(directory: Path) -> sqlite3.Connection:
    """A second connection, for history, which cannot write."""
    uri = (directory / FILE_NAME).absolute().as_uri() + "?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)


def load(connection: sqlite3.Connection) -> tuple[list[KeyValue], int, int]:
    """(the newest state, the newest revision, the compaction revision)."""
    revision = connection.execute("SELECT max(revision) FROM log").fetchone()[0]
    compacted = connection.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
    kvs = read_state(connection, "", "", 2**62)
    return kvs, revision or FIRST_REVISION, compacted[0] if compacted else 0


def row_of(event: Event) -> Row:
    """A write as a row of the log; a deletion does not repeat the value."""
    kv = event.kv
    prev_revision = event.prev.mod_revision if event.prev is not None else 0
    return (
        kv.mod_revision,
        kv.key,
        None if event.deleted else kv.value,
        kv.create_revision,
        prev_revision,
        int(event.deleted),
    )


def append(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """All rows in one transaction, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def compact(connection: sqlite3.Connection, revision: int) -> None:
    """Drop rows before `revision` that no reader at or after it can need.

    Of each key the newest older row stays, unless it is a deletion: it is the state at `revision`, or the `prev` of an
    event after it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "DELETE FROM log WHERE revision < :at AND (deleted = 1 OR EXISTS ("
            " SELECT 1 FROM log AS newer WHERE newer.key = log.key"
            " AND newer.revision > log.revision AND newer.revision < :at))",
            {"at": revision},
        )
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (revision,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_state(connection: sqlite3.Connection, prefix: str, start: str, revision: int) -> list[KeyValue]:
    """Keys with `prefix` from `start` on as of `revision`, in order."""
    # SQLite takes the other columns from the row that has the max().
    rows = connection.execute(
        "SELECT key, value, create_revision, max(revision), deleted FROM log"
        " WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key ORDER BY key",
        (max(prefix, start), prefix_end(prefix) or _LAST_KEY, revision),
    )
    return [KeyValue(key, value, created, modified) for key, value, created, modified, deleted in rows if not deleted]


def read_key(connection: sqlite3.Connection, key: str, revision: int) -> KeyValue | None:
    """One key as of `revision`."""
    row = connection.execute(
        "SELECT value, create_revision, revision, deleted FROM log WHERE key = ? AND revision <= ?"
        " ORDER BY revision DESC LIMIT 1",
        (key, revision),
    ).fetchone()
    return None if row is None or row[3] else KeyValue(key, row[0], row[1], row[2])


def read_events(
    connection: sqlite3.Connection, prefix: str, first: int, last: int, limit: int
) -> tuple[list[Event], int]:
    """Events of keys with `prefix` in revisions `first`…`last`, and the revision to go on from."""
    # The + keeps the planner on the revision order instead of sorting what the key index finds.
    rows = connection.execute(
        "SELECT l.revision, l.key, l.value, l.create_revision, l.deleted, p.revision, p.value, p.create_revision"
        " FROM log AS l LEFT JOIN log AS p ON p.revision = l.prev_revision"
        " WHERE l.revision BETWEEN ? AND ? AND +l.key >= ? AND +l.key < ? ORDER BY l.revision LIMIT ?",
        (first, last, prefix, prefix_end(prefix) or _LAST_KEY, limit),
    )
    events: list[Event] = []
    for revision, key, value, created, deleted, prev_revision, prev_value, prev_created in rows:
        prev = None if prev_revision is None else KeyValue(key, prev_value, prev_created, prev_revision)
        events.append(Event(bool(deleted), KeyValue(key, prev_value if deleted else value, created, revision), prev))
    return events, events[-1].revision + 1 if len(events) == limit else last + 1
