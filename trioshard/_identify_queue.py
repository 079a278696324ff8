"""Permits to identify: one bucket at a time, counted against the day's starts, first come, first served.

`IdentifyQueue` is the seam. `LocalIdentifyQueue` serves the shards of one process, and knows nothing of others;
`trioshard.SqliteStore` has one that all processes of a machine share.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final

import trio

from trioshard.protocol.recovery import IDENTIFY_SPACING
from trioshard.protocol.starts import (
    DAY,
    Permit,
    Start,
    StartBudget,
    Told,
    concurrency,
    share_a_bucket,
    spacing_wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from contextlib import AbstractAsyncContextManager

    from trioshard.protocol.starts import SessionStartLimit

__all__ = ["Hearing", "IdentifyQueue", "IdentifyStatistics", "Line", "LocalIdentifyQueue", "Place", "check_spacing"]

WORTH_A_WORD: Final = 10.0
"""A wait for the pace that is longer than these seconds is logged."""

logger = logging.getLogger("trioshard")


@dataclass(frozen=True, slots=True)
class IdentifyStatistics:
    """Where an identify queue stands, as far as this process knows.

    Attributes:
        waiting: the shards of this process that wait for a permit, in the order of asking.
        buckets: the ``rate_limit_key`` for which they wait, each once.
        next_permit: seconds until one of them may identify, at the latest; ``None`` if none waits, or if that depends
            on a write of this process that is still going on.
        starts_left: session starts that are left today, reserve included.
        resets_at: when new ones are granted, in wall clock seconds.
    """

    waiting: tuple[int, ...]
    buckets: tuple[int, ...]
    next_permit: float | None
    starts_left: int
    resets_at: float


class IdentifyQueue(Protocol):
    """Leave to identify. Every Identify of a bot asks here first, whether it starts a shard or replaces a session.

    One queue object belongs to one bot. `trioshard.testing.conformance` checks implementations.
    """

    def permit(self, shard: tuple[int, int], limit: SessionStartLimit | None) -> AbstractAsyncContextManager[None]:
        """Wait until a shard may identify; the body of the block writes the Identify.

        No two permits of the same bucket (``shard_id % max_concurrency``) are given within 5.5 seconds, counted from
        the end of the block. Within a process they are given in the order of asking. A permit that was entered is
        spent, whatever becomes of the body: nobody knows what Discord has read of a broken write. Who is cancelled
        while waiting has spent nothing, and holds up nobody.

        Args:
            shard: ``(shard_id, num_shards)``.
            limit: the last word of ``GET /gateway/bot``, the same object for as long as there is no newer one;
                ``None`` if it is not known. Then one bucket and 1,000 starts a day are assumed.

        Raises:
            SessionStartsExhausted: no start is left beyond the reserve.
            StoreError: permits cannot be counted now, so none is given.
        """
        ...

    def statistics(self) -> IdentifyStatistics:
        """Return where the queue stands. Never blocks."""
        ...


class Place:
    """Where somebody stands in a `Line`, and when the permit is due as far as is known."""

    def __init__(self, shard_id: int, max_concurrency: int) -> None:
        self.shard_id = shard_id
        self.max_concurrency = max_concurrency
        self.due = math.inf
        self.is_aside = False
        self.moved = trio.Event()

    @contextmanager
    def aside(self) -> Generator[None]:
        """Let the others pass for as long as the block lasts."""
        self.is_aside = True
        self.moved.set()
        try:
            yield
        finally:
            self.is_aside = False
            self.moved = trio.Event()

    def is_behind(self, other: Place) -> bool:
        """Return whether these two want the same bucket."""
        return share_a_bucket((self.shard_id, self.max_concurrency), (other.shard_id, other.max_concurrency))


class Line:
    """Those of one process who wait for a permit, in the order of asking."""

    def __init__(self) -> None:
        # A dict, for its order and its cheap removal.
        self._places: dict[Place, None] = {}

    @contextmanager
    def join(self, shard_id: int, max_concurrency: int) -> Generator[Place]:
        """Stand in line for as long as the block lasts."""
        place = Place(shard_id, max_concurrency)
        self._places[place] = None
        try:
            yield place
        finally:
            del self._places[place]
            place.moved.set()

    async def wait_first(self, place: Place) -> None:
        """Wait until nobody who came earlier wants the same bucket."""
        while (ahead := self._ahead_of(place)) is not None:
            await ahead.moved.wait()

    def statistics(self, budget: StartBudget, now: float, *, wall_offset: float) -> IdentifyStatistics:
        """Return what `IdentifyQueue.statistics` does. ``now`` is in the time of the budget."""
        due = min((place.due for place in self._places), default=math.inf)
        return IdentifyStatistics(
            waiting=tuple(place.shard_id for place in self._places),
            buckets=tuple(sorted({place.shard_id % place.max_concurrency for place in self._places})),
            next_permit=None if due == math.inf else max(0.0, due - trio.current_time()),
            starts_left=budget.left(now),
            resets_at=budget.resets_at(now) + wall_offset,
        )

    def _ahead_of(self, place: Place) -> Place | None:
        """The last of those who came earlier and want the same bucket."""
        found = None
        for other in self._places:
            if other is place:
                return found
            if place.is_behind(other) and not other.is_aside:
                found = other
        return found


class Hearing:
    """Remembers when a limit was first heard: the same limit, passed again, is not newer for that."""

    def __init__(self) -> None:
        self._told: Told | None = None

    def hears(self, limit: SessionStartLimit | None, now: float) -> Told | None:
        """Return the last limit that was heard, with the time when it was new."""
        if limit is not None and (self._told is None or limit != self._told.limit):
            self._told = Told(limit, now)
        return self._told


def check_spacing(spacing: float, reserve: int | None) -> None:
    """Refuse settings that make no sense."""
    if not 0 < spacing < math.inf:
        raise ValueError(f"spacing is a positive number of seconds, not {spacing!r}")
    if reserve is not None and reserve < 0:
        raise ValueError(f"reserve is a number of session starts, at least 0, not {reserve!r}")


def log_wait(shard: tuple[int, int], wait: float, left: int) -> None:
    """Tell why a shard does not start although its bucket is free."""
    logger.warning(
        "shard %d of %d: sessions were started too often; the next one waits %.0f s, so that the %d that are left today"
        " last. Look in the log for what ends them",
        *shard,
        wait,
        left,
    )


@final
class LocalIdentifyQueue:
    """The permits of one process. It forgets what it counted when the process ends.

    Time is Trio's: it does not jump when somebody sets the clock of the machine, and means nothing in another Trio run.

    Args:
        reserve: so many starts of the day are refused; ``None`` for one for each shard, and ten. ``reserve=0`` starts
            a bot with the last ones.
        spacing: seconds between two permits of a bucket.
        guard: whether starts are slowed down and refused (see `trioshard.protocol.starts`). ``False`` is for gateways
            that do not count them, such as one of your own.
    """

    def __init__(self, *, reserve: int | None = None, spacing: float = IDENTIFY_SPACING, guard: bool = True) -> None:
        check_spacing(spacing, reserve)
        self._reserve = reserve
        self._spacing = spacing
        self._guard = guard
        self._line = Line()
        self._hearing = Hearing()
        self._permits: dict[int, Permit] = {}
        self._given = 0
        self._starts: list[Start] = []
        self._ended = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def permit(self, shard: tuple[int, int], limit: SessionStartLimit | None) -> AsyncGenerator[None]:
        """Wait until a shard may identify. See `IdentifyQueue.permit`."""
        await trio.lowlevel.checkpoint()
        self._hearing.hears(limit, trio.current_time())
        buckets = concurrency(limit)
        with self._line.join(shard[0], buckets) as place:
            warned = False
            while True:
                await self._line.wait_first(place)
                spaced, paced = self._waits(shard, buckets)
                if max(spaced, paced) <= 0.0:
                    break
                if paced > WORTH_A_WORD and not warned:
                    warned = True
                    log_wait(shard, paced, self._budget().left(trio.current_time()))
                place.due = trio.current_time() + max(spaced, paced)
                if paced > spaced:
                    with place.aside():
                        await trio.sleep(paced)
                else:
                    with trio.move_on_after(spaced):
                        await self._ended.park()
            # No checkpoint between the last look and this.
            self._given += 1
            key = self._given
            self._permits[key] = Permit(shard[0], buckets)
            self._starts.append(Start(shard[0], trio.current_time()))
        try:
            yield
        finally:
            self._permits[key] = Permit(shard[0], buckets, trio.current_time())
            self._ended.unpark_all()

    def statistics(self) -> IdentifyStatistics:
        """Return where the queue stands. Call it in a Trio run."""
        now = trio.current_time()
        return self._line.statistics(self._budget(), now, wall_offset=time.time() - now)

    def _waits(self, shard: tuple[int, int], buckets: int) -> tuple[float, float]:
        """Seconds until the bucket is free, and until the pace allows a start."""
        now = trio.current_time()
        for key in [key for key, permit in self._permits.items() if permit.ends + self._spacing <= now]:
            del self._permits[key]
        self._starts = [start for start in self._starts if start.at > now - DAY]
        spaced = spacing_wait(self._permits.values(), shard[0], buckets, now, spacing=self._spacing)
        if not self._guard:
            return spaced, 0.0
        budget = self._budget()
        if budget.is_exhausted(shard, now):
            raise budget.exhausted(shard, now, wall_offset=time.time() - now)
        return spaced, budget.wait(shard, now)

    def _budget(self) -> StartBudget:
        told = self._hearing.hears(None, trio.current_time())
        return StartBudget(self._starts, told, reserve=self._reserve)
