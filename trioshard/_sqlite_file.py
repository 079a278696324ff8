"""One SQLite file, used by many processes: opened with care, asked in threads, its errors in our words.

**Off the event loop.** Every transaction runs in a thread, one at a time; the connection is never used by two. A thread
cannot be abandoned, because the connection would be in use still. It waits for other processes for at most a tenth of
a second; the rest of the patience is spent in Trio, where it can be cancelled.

**Safe against kills.** Every change is one transaction in WAL mode, which is there whole or not at all. With
``synchronous=NORMAL`` a killed process loses nothing that was committed; a power failure may lose the last moments,
never the order. That is good enough: an older session replays more, and Discord knows the starts that were forgotten.

**A damaged file of ours is set aside**, with ``-wal`` and ``-shm``, as ``NAME.broken-TIME``; the log says so, and a new
one is begun. What is lost are sessions, which cost a start each, and the count of starts, of which Discord tells. A bot
that stays down because of its cache would be worse. **A file that is not ours is never touched**: that is an error.

Whoever opens the file holds the first byte of ``NAME.lock``, so that only one sets it aside. Others notice before their
next transaction that the file has been replaced, and open the new one.
"""

from __future__ import annotations

import logging
import sqlite3
import struct
import time
from typing import TYPE_CHECKING, Final, TypeVar, final

import trio

from trioshard._file_locks import try_lock
from trioshard.errors import StoreBusy, StoreError, StoreUnreadable, StoreUnwritable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SqliteFile"]

T = TypeVar("T")

APPLICATION_ID: Final = 0x74726973
"""``tris``, in the header of a file of ours."""

VERSION: Final = 1
"""Of the tables."""

SCHEMA: Final = """
CREATE TABLE sessions (bot TEXT, shard_id INTEGER, num_shards INTEGER, session BLOB NOT NULL, stored_at REAL NOT NULL,
    PRIMARY KEY (bot, shard_id, num_shards)) WITHOUT ROWID;
CREATE TABLE claims (bot TEXT, shard_id INTEGER, num_shards INTEGER, pid INTEGER NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (bot, shard_id, num_shards)) WITHOUT ROWID;
CREATE TABLE starts (bot TEXT NOT NULL, shard_id INTEGER NOT NULL, at REAL NOT NULL);
CREATE INDEX starts_at ON starts (bot, at);
CREATE TABLE permits (id INTEGER PRIMARY KEY AUTOINCREMENT, bot TEXT NOT NULL, shard_id INTEGER NOT NULL,
    max_concurrency INTEGER NOT NULL, held INTEGER NOT NULL, begins REAL NOT NULL, ends REAL NOT NULL);
CREATE TABLE told (bot TEXT PRIMARY KEY, told_limit BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""

THREAD_PATIENCE: Final = 0.1
"""Seconds that a thread waits for a lock of the database."""

RETRY: Final = 0.05
"""Seconds between two attempts to get a lock."""

_HEADER: Final = struct.Struct(">16s52xI28x")
"""The first 100 bytes of a database: its magic words, and its application id."""

_MAGIC: Final = b"SQLite format 3\0"

_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TAKEN: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

logger = logging.getLogger("trioshard")


class _Taken(Exception):
    """Somebody holds the lock. Try again."""


class _Damaged(Exception):
    """The file is ours, and damaged."""


@final
class SqliteFile:
    """A SQLite file and this process's one connection to it.

    Args:
        path: the file, absolute. It is created when it is needed first.
        patience: seconds to wait for other processes.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self.path = path
        self.lock_path = path.with_name(f"{path.name}.lock")
        self._patience = patience
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._closed = False

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a function in a write transaction, in a thread. It may be called more than once.

        When this is cancelled, the transaction has happened whole or not at all.

        Raises:
            StoreError: it could not be carried out.
            trio.ClosedResourceError: the file has been closed.
        """
        patience_ends = trio.current_time() + self._patience
        while True:
            try:
                return await trio.to_thread.run_sync(self._transact, work, limiter=self._limiter)
            except _Taken:
                if trio.current_time() >= patience_ends:
                    raise StoreBusy(
                        f"{self.path} has been locked by another process for {self._patience:g} s. Nothing was written."
                        " If this comes again, look for a program that keeps it open: a backup, or a stopped process."
                    ) from None
            await trio.sleep(RETRY)

    async def aclose(self) -> None:
        """Close the connection. Idempotent; even when cancelled."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._drop, limiter=self._limiter)

    # --- in the thread ---

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise trio.ClosedResourceError(f"the store {self.path} has been closed")
        try:
            try:
                return _in_transaction(self._connected(), work)
            except sqlite3.DatabaseError as exc:
                if _code(exc) not in _DAMAGED:
                    raise
                self._drop()
                # Opening looks at it, and sets it aside.
                return _in_transaction(self._connected(), work)
        except sqlite3.Error as exc:
            if _code(exc) in _TAKEN:
                raise _Taken from exc
            raise _translate(exc, self.path) from exc
        except OSError as exc:
            raise _unwritable(self.path, str(exc)) from exc

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._inode == _inode(self.path):
                return self._connection
            self._drop()
        lock = try_lock(self.lock_path, 0)
        if lock is None:
            raise _Taken
        try:
            try:
                self._connection = _open(self.path)
            except _Damaged as exc:
                _set_aside(self.path, str(exc))
                self._connection = _open(self.path)
            self._inode = _inode(self.path)
        finally:
            lock.release()
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _open(path: Path) -> sqlite3.Connection:
    """Open a database of ours, or make one where there is none.

    Raises:
        _Damaged: it is ours, and damaged.
        StoreUnreadable: it is not ours, or newer.
        sqlite3.Error: anything else.
    """
    connection = sqlite3.connect(path, timeout=THREAD_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as exc:
        connection.close()
        if _code(exc) in _DAMAGED:
            raise (_Damaged(str(exc)) if _was_ours(path) else _foreign(path)) from exc
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _was_ours(path: Path) -> bool:
    """Return whether the header of a file that SQLite cannot read bears our application id.

    Only for such a file: closing a second descriptor drops the locks that SQLite has on it in this process.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
    return len(header) == _HEADER.size and _HEADER.unpack(header) == (_MAGIC, APPLICATION_ID)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    owner, version, tables = (
        connection.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    is_blank = (owner, version, tables) == (0, 0, 0)
    # SQLite takes a file of one byte for an empty one.
    if owner != APPLICATION_ID and (not is_blank or path.stat().st_size == 1):
        raise _foreign(path)
    if version > VERSION:
        raise StoreUnreadable(
            f"{path} was written by a newer trioshard (its tables have version {version}, these know {VERSION}). It was"
            " left as it is: use the newer release, or another file."
        )
    if not is_blank:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _Damaged(" ".join(str(verdict).split()))
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise _unwritable(path, f"its file system does not allow write-ahead logging, only {mode!r}")
    connection.execute("PRAGMA synchronous=NORMAL")
    if is_blank:
        _in_transaction(connection, _create)
        # The header of the file itself tells from now on whose it is, even if the rest is lost.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")


def _set_aside(path: Path, why: str) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number, target = 1, path.with_name(f"{path.name}.broken-{stamp}")
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.broken-{stamp}-{number}")
    # The file itself last: as long as it is there, the next one to open it finds the damage again.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    logger.error(
        "the store %s is damaged (%s). It was set aside as %s, and a new one begun: its sessions cannot be resumed, and"
        " its count of session starts is lost. Nothing needs to be done; if it comes again, look at the disk",
        path,
        why,
        target.name,
    )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _code(error: sqlite3.Error) -> int | None:
    """The primary result code of SQLite; ``None`` for an error of the binding."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _translate(error: sqlite3.Error, path: Path) -> StoreError:
    match _code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreUnreadable(
                f"{path} is damaged again right after it was opened ({error}). Check the disk, or use another file."
            )
        case sqlite3.SQLITE_FULL:
            return _unwritable(path, "the disk is full, or a quota is used up")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _unwritable(path, "it is read-only for this user")
        case sqlite3.SQLITE_CANTOPEN:
            return _unwritable(path, "it cannot be opened; look at the permissions of the file and its directory")
        case _:
            return _unwritable(path, str(error))


def _foreign(path: Path) -> StoreUnreadable:
    return StoreUnreadable(
        f"{path} is not a store of trioshard, so it was left as it is. Choose another file, or move this one away."
    )


def _unwritable(path: Path, why: str) -> StoreUnwritable:
    return StoreUnwritable(
        f"the store {path} cannot be written: {why}. Nothing was written. The file and its directory have to be"
        " writable, on a local disk with some room."
    )
