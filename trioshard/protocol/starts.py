"""Session starts: how many are left, how fast they may follow each other, when to stop. All functions of ``now``.

Discord grants a bot 1,000 session starts (Identifies) a day, to all its shards together, and resets the token of a
bot that takes more. What uses them up is a loop: a bot that crashes after READY, and a supervisor that starts it again.
`StartBudget` judges each start before it is made, by these rules:

- **The pace of a shard.** Each start of a shard raises its level by a weight, and the level sinks by one every 15
  minutes. Below level 20 the next start need not wait. From there on the time since the shard's last start must be at
  least 5 s, and twice as much with every 4 levels, up to 15 minutes times the weight. The weight is 1 for a bot whose
  total allows 1,000 starts to each shard, and grows with the number of shards up to 4: a bot of many shards has fewer
  starts for each.
- **The rest.** When less than half of what may be used is left, the time since the shard's last start must also be a
  growing share of what would make the rest last until the reset. No wait is ever longer than an hour.
- **The reserve.** When no more is left than one start for each shard, and `SPARE`, starts are refused. It is there for
  the day's last start, when the cause is mended. Who wants to use it says ``reserve=0``, and the rest is not stretched.

What follows for a bot of one shard: twenty starts in an hour never wait. A loop has made 50 starts when it waits 15
minutes for each, so no day sees more than 50 + 96 = 146, and 850 are left. For ten shards it is at most 390 of 1,000.
The first start of every shard, however many there are, meets none of these waits, as long as half is left.

All times are wall clock seconds or those of any other clock, as long as it is the same one. Sources: *Gateway*,
session start limit object, rate limiting (``max_concurrency``). The rules for the pace are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from trioshard.errors import SessionStartsExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DAY",
    "LONGEST_WAIT",
    "Permit",
    "SessionStartLimit",
    "Start",
    "StartBudget",
    "Told",
    "concurrency",
    "spacing_wait",
]

DAY: Final = 86400.0
"""Seconds for which Discord counts a start."""

FREE_LEVEL: Final = 20
"""The level from which on starts of a shard wait."""

FIRST_WAIT: Final = 5.0
"""Seconds between two starts at this level."""

DOUBLING: Final = 4
"""So many levels more, and the wait is twice as long."""

LEAK: Final = 900.0
"""Seconds in which the level sinks by one; times the weight, the longest wait for the pace."""

GREATEST_WEIGHT: Final = 4.0

STARTS_OF_A_SHARD: Final = 1000
"""A total that allows so many starts to each shard makes the weight 1."""

LONGEST_WAIT: Final = 3600.0

SPARE: Final = 10
"""Starts in the reserve beyond one for each shard, for those that Discord had not counted when it was asked."""

SETTLING: Final = 15.0
"""Seconds from a permit until Discord has counted the start: those of the write, and its own."""


class SessionStartLimit(msgspec.Struct, frozen=True):
    """What ``GET /gateway/bot`` says about session starts. ``reset_after`` is in **milliseconds**."""

    total: int = 1000
    remaining: int = 1000
    reset_after: int = 0
    max_concurrency: int = 1


UNKNOWN: Final = SessionStartLimit()
"""What is assumed of a bot as long as Discord has not been asked."""


@dataclass(frozen=True, slots=True)
class Told:
    """A limit, and when Discord told it."""

    limit: SessionStartLimit
    at: float

    @property
    def resets_at(self) -> float:
        """When the limit no longer holds."""
        return self.at + min(max(self.limit.reset_after / 1000, 0.0), DAY)


@dataclass(frozen=True, slots=True)
class Start:
    """One Identify that a shard was permitted to make, and when."""

    shard_id: int
    at: float


class StartBudget:
    """What a bot may still start, judged from what is known.

    Args:
        starts: the bot's own starts of the last `DAY`, in any order.
        told: the last word of Discord, or ``None``.
        reserve: so many starts are kept back; ``None`` for one for each shard, and `SPARE`.
    """

    def __init__(self, starts: Iterable[Start], told: Told | None, *, reserve: int | None = None) -> None:
        self._starts = sorted(starts, key=lambda start: start.at)
        self._told = told
        self._limit = UNKNOWN if told is None else told.limit
        self._reserve = reserve

    def after(self, start: Start) -> StartBudget:
        """Return what it is when one more was started."""
        return StartBudget([*self._starts, start], self._told, reserve=self._reserve)

    def left(self, now: float) -> int:
        """Return how many starts are left today, reserve included.

        It is the smaller of two numbers: what Discord said, less what was started since; and the total, less what
        was started since the count began.
        """
        left = self._limit.total - self._count_since(self._window_began(now))
        if self._told is not None and now < self._told.resets_at:
            left = min(left, self._limit.remaining - self._count_since(self._told.at))
        return max(0, left)

    def resets_at(self, now: float) -> float:
        """Return when new starts are granted; ``now`` if none is known to be used."""
        if self._told is not None and now < self._told.resets_at:
            return self._told.resets_at
        began = self._window_began(now)
        return next((start.at + DAY for start in self._starts if start.at > began), now)

    def reserve(self, num_shards: int) -> int:
        """Return how many starts are kept back. They leave room for the first start of each shard."""
        if self._reserve is not None:
            return self._reserve
        return max(0, min(num_shards + SPARE, (self._limit.total - num_shards) // 2))

    def is_exhausted(self, shard: tuple[int, int], now: float) -> bool:
        """Return whether a start has to be refused."""
        return self.left(now) <= self.reserve(shard[1])

    def exhausted(self, shard: tuple[int, int], now: float, *, wall_offset: float = 0.0) -> SessionStartsExhausted:
        """Return the error that refuses a start.

        Args:
            shard: the ``(shard_id, num_shards)`` that wanted to start.
            now: the time of asking.
            wall_offset: what makes wall clock seconds of the clock that is used here.
        """
        left, resets_at = self.left(now), self.resets_at(now)
        text = f"shard {shard[0]} of {shard[1]} may not identify: {left} of {self._limit.total} session starts are left"
        if left:
            text += (
                f", and the last {self.reserve(shard[1])} are kept back, so that the bot can be started once more when"
                " what uses them up is mended. To start it now nevertheless, give the identify queue reserve=0."
            )
        else:
            text += ", and one more makes Discord reset the token."
        return SessionStartsExhausted(
            f"{text} Nothing was sent. New ones come in {max(0.0, resets_at - now):.0f} s.",
            reset_after=max(0.0, resets_at - now),
            shard=shard,
            left=left,
            resets_at=resets_at + wall_offset,
        )

    def wait(self, shard: tuple[int, int], now: float) -> float:
        """Return the seconds until this shard may start again: 0.0 for most; at most `LONGEST_WAIT`."""
        own = [start.at for start in self._starts if start.shard_id == shard[0]]
        if own:
            last, pace = own[-1], self._pace(own, shard[1])
        elif self._has_strangers(now):
            # Somebody without our memory uses them up: perhaps this very shard, in its last life.
            assert self._told is not None
            last, pace = self._told.at, 0.0
        else:
            return 0.0
        between = min(LONGEST_WAIT, max(pace, self._stretch(shard, now)))
        return min(LONGEST_WAIT, max(0.0, last + between - now))

    def _pace(self, own: list[float], num_shards: int) -> float:
        """Seconds between the last start of a shard and its next."""
        share = num_shards * STARTS_OF_A_SHARD / max(1, self._limit.total)
        weight = min(GREATEST_WEIGHT, max(1.0, share))
        level, before = 0.0, own[0]
        for at in own:
            level = max(0.0, level - (at - before) / LEAK) + weight
            before = at
        if level < FREE_LEVEL:
            return 0.0
        doublings = min((level - FREE_LEVEL) / DOUBLING, 64.0)
        return min(LEAK * weight, FIRST_WAIT * math.pow(2.0, doublings))

    def _stretch(self, shard: tuple[int, int], now: float) -> float:
        """Seconds between two starts of a shard that make the rest last; nothing as long as half is left."""
        usable = self.left(now) - self.reserve(shard[1])
        whole = self._limit.total - self.reserve(shard[1])
        if self._reserve == 0 or usable <= 0 or 2 * usable >= whole:
            return 0.0
        return (1.0 - 2.0 * usable / whole) * shard[1] * (self.resets_at(now) - now) / usable

    def _has_strangers(self, now: float) -> bool:
        """Whether Discord counts starts that we know nothing of."""
        if self._told is None or now >= self._told.resets_at:
            return False
        ours = sum(1 for start in self._starts if self._window_began(now) < start.at <= self._told.at)
        return self._limit.total - self._limit.remaining > ours

    def _window_began(self, now: float) -> float:
        if self._told is None:
            return now - DAY
        if now < self._told.resets_at:
            return self._told.resets_at - DAY - SETTLING
        return max(self._told.resets_at - SETTLING, now - DAY)

    def _count_since(self, moment: float) -> int:
        return sum(1 for start in self._starts if start.at >= moment)


@dataclass(frozen=True, slots=True)
class Permit:
    """An Identify whose window is not over.

    Attributes:
        shard_id: whose it is.
        max_concurrency: what Discord said when it was permitted.
        ends: when its write ended, or will have ended at the latest; ``inf`` if nobody knows.
    """

    shard_id: int
    max_concurrency: int
    ends: float = math.inf


def concurrency(limit: SessionStartLimit | None) -> int:
    """Return how many buckets there are: at least one, and only one when nobody knows."""
    return 1 if limit is None else max(1, limit.max_concurrency)


def share_a_bucket(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two ``(shard_id, max_concurrency)`` stand in each other's way.

    When ``max_concurrency`` changes they may disagree about it. Then it is enough that one of them thinks so.
    """
    distance = one[0] - other[0]
    return distance % one[1] == 0 or distance % other[1] == 0


def spacing_wait(
    permits: Iterable[Permit], shard_id: int, max_concurrency: int, now: float, *, spacing: float
) -> float:
    """Return the seconds until the bucket of a shard is free: ``inf`` only after a write has ended."""
    asked = (shard_id, max_concurrency)
    ends = [permit.ends for permit in permits if share_a_bucket(asked, (permit.shard_id, permit.max_concurrency))]
    return max((end + spacing - now for end in ends if end + spacing > now), default=0.0)
