"""The embedded store: one SQLite file that the processes of a machine share."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from trioshard._file_locks import try_lock
from trioshard._identify_queue import check_spacing
from trioshard._identify_queue_sqlite import QueueSettings, SqliteIdentifyQueue
from trioshard._sqlite_file import SqliteFile
from trioshard._store import already_claimed
from trioshard.errors import StoreError, StoreUnwritable
from trioshard.protocol.recovery import IDENTIFY_SPACING
from trioshard.protocol.session import Session
from trioshard.protocol.stored import RESUMABLE_FOR, StoredSession

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from trioshard._file_locks import FileLock
    from trioshard.errors import ShardClaimed

__all__ = ["SqliteStore"]

PATIENCE: Final = 5.0
"""Seconds to wait for a lock of another process: a thousand times what a transaction takes."""

LEASE: Final = 30.0
"""Seconds until the bucket of a process that was killed in the middle of an Identify may be counted as free."""

logger = logging.getLogger("trioshard")


@final
class SqliteStore:
    """Sessions, identify permits and the day's session starts in one file.

    Everything that runs shards of the same bots on one machine uses the same path; it has to be on a local disk. Beside
    the file there are ``-wal`` and ``-shm``, which are SQLite's, and ``.lock``, which is empty. No token is written.

    Use it as ``async with SqliteStore("bot.db") as store:``, or call `aclose`. It is opened when it is needed first.
    A killed process leaves no lock and no torn record. A damaged file is set aside, and the log says so; a file that
    is not a store of trioshard is an error, and left alone.

    Args:
        path: the file. Its directory has to exist.
        reserve: so many starts of the day are refused; ``None`` for one for each shard, and ten. ``reserve=0`` starts
            a bot with the last ones.
        guard: see `LocalIdentifyQueue`.
        spacing: seconds between two permits of a bucket, the same in all processes.
        lease: seconds that the write of an Identify takes at most; more than the ``write_timeout`` of the shards.
        patience: seconds to wait for other processes.
        wall_clock: the time of day. Called in any thread.
        clock: seconds that nobody sets, the same in all processes. Called in any thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        reserve: int | None = None,
        guard: bool = True,
        spacing: float = IDENTIFY_SPACING,
        lease: float = LEASE,
        patience: float = PATIENCE,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_spacing(spacing, reserve)
        for name, value in (("lease", lease), ("patience", patience)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is a positive number of seconds, not {value!r}")
        self._file = SqliteFile(Path(path).absolute(), patience=patience)
        self._settings = QueueSettings(
            reserve=reserve, guard=guard, spacing=spacing, lease=lease, wall_clock=wall_clock, clock=clock
        )
        self._queues: dict[str, SqliteIdentifyQueue] = {}

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    async def __aenter__(self) -> SqliteStore:
        await self._file.transact(lambda connection: None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. Whatever is asked afterwards raises `trio.ClosedResourceError`. Idempotent."""
        await self._file.aclose()

    async def load(self, bot: str, shard: tuple[int, int]) -> StoredSession | None:
        """See `SessionStore.load`."""
        row = await self._file.transact(
            lambda connection: connection.execute(
                "SELECT session, stored_at FROM sessions WHERE bot = ? AND shard_id = ? AND num_shards = ?",
                (bot, *shard),
            ).fetchone()
        )
        if row is None:
            return None
        try:
            return StoredSession(session=msgspec.json.decode(row[0], type=Session), stored_at=row[1])
        except ValueError as exc:
            logger.warning("the stored session of shard %d of %d makes no sense, and is not tried: %s", *shard, exc)
            return None

    async def save(self, bot: str, stored: StoredSession) -> None:
        """See `SessionStore.save`."""
        key = (bot, *stored.session.shard)
        row = (msgspec.json.encode(stored.session), stored.stored_at)

        def save(connection: sqlite3.Connection) -> None:
            # What is too old for anybody, of shards that do not run any more.
            connection.execute("DELETE FROM sessions WHERE stored_at < ?", (stored.stored_at - 2 * RESUMABLE_FOR,))
            connection.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)", (*key, *row))

        await self._file.transact(save)

    async def forget(self, bot: str, shard: tuple[int, int]) -> None:
        """See `SessionStore.forget`."""

        def forget(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM sessions WHERE bot = ? AND shard_id = ? AND num_shards = ?", (bot, *shard))

        await self._file.transact(forget)

    @asynccontextmanager
    async def claim(self, bot: str, shard: tuple[int, int]) -> AsyncGenerator[None]:
        """See `SessionStore.claim`. What counts is a lock of the operating system; the file only tells whose it is."""
        lock = await self._lock(bot, shard)
        if lock is None:
            raise await self._claimed_by_other(bot, shard)
        try:
            await self._note_claim(bot, shard)
            yield
        finally:
            lock.release()

    def identify_queue(self, bot: str) -> SqliteIdentifyQueue:
        """See `SessionStore.identify_queue`."""
        return self._queues.setdefault(bot, SqliteIdentifyQueue(self._file, bot, self._settings))

    async def _lock(self, bot: str, shard: tuple[int, int]) -> FileLock | None:
        try:
            # Not abandoned when cancelled: the lock would have no owner.
            return await trio.to_thread.run_sync(partial(try_lock, self._file.lock_path, _offset(bot, shard)))
        except OSError as exc:
            raise StoreUnwritable(
                f"{self._file.lock_path} cannot be locked, so nobody knows whether the shard runs elsewhere: {exc}. Its"
                " directory has to be writable, on a local disk."
            ) from exc

    async def _note_claim(self, bot: str, shard: tuple[int, int]) -> None:
        row = (bot, *shard, os.getpid(), self._settings.wall_clock())

        def note(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)", row)

        try:
            await self._file.transact(note)
        except StoreError as exc:
            logger.warning("who else wants shard %d of %d will not be told who runs it: %s", *shard, exc)

    async def _claimed_by_other(self, bot: str, shard: tuple[int, int]) -> ShardClaimed:
        try:
            row = await self._file.transact(
                lambda connection: connection.execute(
                    "SELECT pid, since FROM claims WHERE bot = ? AND shard_id = ? AND num_shards = ?", (bot, *shard)
                ).fetchone()
            )
        except StoreError:
            row = None  # It is claimed all the same.
        pid, since = (None, None) if row is None else row
        return already_claimed(shard, pid, since)


def _offset(bot: str, shard: tuple[int, int]) -> int:
    """The byte that stands for a shard. Lock files need not be as long as that."""
    digest = blake2b(f"{bot} {shard[0]} {shard[1]}".encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (1 << 62)
