"""Permits to identify for all processes that share a SQLite file.

A permit is a row that lives from the moment it is given until its window is over. While its holder writes, the row
counts as a write that lasts until the end of the *lease*; when the holder is done it puts the true end in. A holder
that was killed in between does not: its bucket is free again a window after the lease, and that is safe, because its
Identify cannot have been written later.

Windows are measured with the monotonic clock, which is the same for all processes of a machine, stands still while it
sleeps, and is not moved when somebody sets the time. After a reboot it begins anew; rows that seem to come from
the future are taken as written now. The day's starts are counted in wall clock seconds, because they have to outlive
a reboot; rows from the future are treated likewise, so that a clock that is put back blocks nobody for long.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from trioshard._identify_queue import WORTH_A_WORD, Hearing, Line, log_wait, logger
from trioshard.errors import SessionStartsExhausted, StoreError
from trioshard.protocol.starts import (
    DAY,
    Permit,
    SessionStartLimit,
    Start,
    StartBudget,
    Told,
    concurrency,
    share_a_bucket,
    spacing_wait,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable

    from trioshard._identify_queue import IdentifyStatistics, Place
    from trioshard._sqlite_file import SqliteFile

__all__ = ["QueueSettings", "SqliteIdentifyQueue"]

LONGEST_POLL: Final = 60.0
"""Seconds between two looks: a newer word of Discord may shorten a wait."""

SHORTEST_POLL: Final = 0.001


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How permits are given. The clocks are called in a thread.

    Attributes:
        reserve: so many starts are kept back; ``None`` for the usual number.
        guard: whether starts are slowed down and refused.
        spacing: seconds between two permits of a bucket.
        lease: seconds that the write of an Identify may take at most.
        wall_clock: for the day's starts.
        clock: for everything shorter; the same in all processes.
    """

    reserve: int | None
    guard: bool
    spacing: float
    lease: float
    wall_clock: Callable[[], float]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking: a permit, or how long to wait for the bucket and the pace, or a refusal."""

    budget: StartBudget
    permit: int | None = None
    spaced: float = 0.0
    paced: float = 0.0
    held: bool = False
    refusal: SessionStartsExhausted | None = None

    @property
    def wait(self) -> float:
        """Seconds until a permit may be given."""
        return max(self.spaced, self.paced)

    def pause(self, spacing: float) -> float:
        """Seconds until asking again makes sense.

        While another process writes, nobody knows when it ends, but the bucket is not free before a window from now.
        """
        wait = max(spacing, self.paced) if self.held else self.wait
        return max(SHORTEST_POLL, min(wait, self.wait, LONGEST_POLL))


@final
class SqliteIdentifyQueue:
    """The permits of one bot, shared by all who use the same file. Get it from `SqliteStore.identify_queue`."""

    def __init__(self, file: SqliteFile, bot: str, settings: QueueSettings) -> None:
        self._file = file
        self._bot = bot
        self._settings = settings
        self._line = Line()
        self._hearing = Hearing()
        self._budget = StartBudget((), None, reserve=settings.reserve)

    @asynccontextmanager
    async def permit(self, shard: tuple[int, int], limit: SessionStartLimit | None) -> AsyncGenerator[None]:
        """Wait until a shard may identify. See `IdentifyQueue.permit`.

        Between processes the order is that of luck. The body has to end within the store's ``lease``.
        """
        await trio.lowlevel.checkpoint()
        told = self._hearing.hears(limit, self._settings.wall_clock())
        with self._line.join(shard[0], concurrency(limit)) as place:
            number = await self._wait_permitted(place, shard, told)
        try:
            yield
        finally:
            await self._end(number, place)

    def statistics(self) -> IdentifyStatistics:
        """Return where the queue stands, as of the last time that this process asked. Call it in a Trio run."""
        return self._line.statistics(self._budget, self._settings.wall_clock(), wall_offset=0.0)

    async def _wait_permitted(self, place: Place, shard: tuple[int, int], told: Told | None) -> int:
        warned = False
        while True:
            await self._line.wait_first(place)
            answer = await self._file.transact(lambda connection: self._ask(connection, shard, place, told))
            self._budget = answer.budget
            if answer.refusal is not None:
                raise answer.refusal
            if answer.permit is not None:
                # No checkpoint from here to the body: what is spent is used.
                return answer.permit
            if answer.paced > WORTH_A_WORD and not warned:
                warned = True
                log_wait(shard, answer.paced, answer.budget.left(self._settings.wall_clock()))
            place.due = trio.current_time() + answer.wait
            pause = answer.pause(self._settings.spacing)
            if answer.paced > answer.spaced:
                with place.aside():
                    await trio.sleep(pause)
            else:
                await trio.sleep(pause)

    async def _end(self, number: int, place: Place) -> None:
        ended = self._settings.clock()

        def end(connection: sqlite3.Connection) -> None:
            # The row is not there if the write outlived the lease, or the file has been replaced.
            connection.execute("DELETE FROM permits WHERE (id, bot) = (?, ?)", (number, self._bot))
            self._insert(connection, place, held=False, begins=ended, ends=ended)

        try:
            with trio.CancelScope(shield=True):
                await self._file.transact(end)
        except StoreError as exc:
            logger.warning(
                "the end of an Identify could not be stored, so the next one of its bucket waits up to %.0f s: %s",
                self._settings.lease + self._settings.spacing,
                exc,
            )

    # --- in the thread, in one transaction ---

    def _ask(self, connection: sqlite3.Connection, shard: tuple[int, int], place: Place, told: Told | None) -> _Answer:
        # Read inside the transaction: who waited for the lock would judge by the past.
        wall, now = self._settings.wall_clock(), self._settings.clock()
        budget = self._read_budget(connection, told, wall)
        if self._settings.guard and budget.is_exhausted(shard, wall):
            return _Answer(budget, refusal=budget.exhausted(shard, wall))
        permits, held = self._read_permits(connection, now, place)
        spaced = spacing_wait(permits, place.shard_id, place.max_concurrency, now, spacing=self._settings.spacing)
        paced = budget.wait(shard, wall) if self._settings.guard else 0.0
        if max(spaced, paced) > 0.0:
            return _Answer(budget, spaced=spaced, paced=paced, held=held)
        connection.execute("INSERT INTO starts (bot, shard_id, at) VALUES (?, ?, ?)", (self._bot, shard[0], wall))
        number = self._insert(connection, place, held=True, begins=now, ends=now + self._settings.lease)
        return _Answer(budget.after(Start(shard[0], wall)), permit=number)

    def _insert(self, connection: sqlite3.Connection, place: Place, *, held: bool, begins: float, ends: float) -> int:
        cursor = connection.execute(
            "INSERT INTO permits (bot, shard_id, max_concurrency, held, begins, ends) VALUES (?, ?, ?, ?, ?, ?)",
            (self._bot, place.shard_id, place.max_concurrency, held, begins, ends),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _read_permits(self, connection: sqlite3.Connection, now: float, place: Place) -> tuple[list[Permit], bool]:
        """Return the permits whose windows are not over, and whether somebody still holds one of this bucket."""
        # From before a reboot: nobody knows when, so it was now.
        connection.execute(
            "UPDATE permits SET held = 0, begins = ?1, ends = ?1 WHERE bot = ?2 AND begins > ?1", (now, self._bot)
        )
        connection.execute("DELETE FROM permits WHERE bot = ? AND ends <= ?", (self._bot, now - self._settings.spacing))
        permits: list[Permit] = []
        held = False
        for shard_id, max_concurrency, is_held, ends in connection.execute(
            "SELECT shard_id, max_concurrency, held, ends FROM permits WHERE bot = ?", (self._bot,)
        ):
            permits.append(Permit(shard_id, max_concurrency, ends))
            in_the_way = share_a_bucket((place.shard_id, place.max_concurrency), (shard_id, max_concurrency))
            held = held or bool(is_held and in_the_way)
        return permits, held

    def _read_budget(self, connection: sqlite3.Connection, told: Told | None, wall: float) -> StartBudget:
        # From before the clock was put back: nobody knows when, so it was now.
        connection.execute("UPDATE starts SET at = ?1 WHERE bot = ?2 AND at > ?1", (wall, self._bot))
        connection.execute("UPDATE told SET at = ?1 WHERE bot = ?2 AND at > ?1", (wall, self._bot))
        connection.execute("DELETE FROM starts WHERE bot = ? AND at <= ?", (self._bot, wall - DAY))
        starts = connection.execute("SELECT shard_id, at FROM starts WHERE bot = ?", (self._bot,)).fetchall()
        newest = self._read_told(connection, told, wall)
        return StartBudget([Start(*start) for start in starts], newest, reserve=self._settings.reserve)

    def _read_told(self, connection: sqlite3.Connection, told: Told | None, wall: float) -> Told | None:
        """Return the newest word of Discord that any process has heard."""
        row = connection.execute("SELECT told_limit, at FROM told WHERE bot = ?", (self._bot,)).fetchone()
        stored = None if row is None else Told(msgspec.json.decode(row[0], type=SessionStartLimit), row[1])
        if told is None:
            return stored
        told = Told(told.limit, min(told.at, wall))
        if stored is not None and (stored.at > told.at or stored.limit == told.limit):
            return stored
        connection.execute(
            "INSERT OR REPLACE INTO told (bot, told_limit, at) VALUES (?, ?, ?)",
            (self._bot, msgspec.json.encode(told.limit), told.at),
        )
        return told
