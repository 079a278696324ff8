"""How often: Discord's send limits, and how long to wait before trying again. All functions of ``now``.

Limits are kept as sliding logs: the times of the last sends are remembered, so that no window of the given
length, wherever it starts, ever holds more than allowed. (Discord does not say whether its windows are fixed or
sliding; this satisfies both.)

Sources: *Gateway*, rate limiting (120 payloads per 60 s and connection); *Gateway Events*, update presence (5 per
20 s) and request guild members (full list: 1 per guild and 30 s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "FULL_LIST_PERIOD",
    "PRESENCE_LIMIT",
    "PRESENCE_PERIOD",
    "SEND_LIMIT",
    "SEND_PERIOD",
    "Backoff",
    "BotLimits",
    "Lane",
    "SendBudget",
    "SlidingLog",
]

SEND_LIMIT: Final = 120
SEND_PERIOD: Final = 60.0
PRESENCE_LIMIT: Final = 5
PRESENCE_PERIOD: Final = 20.0
FULL_LIST_PERIOD: Final = 30.0

POSTPONED: Final = 4096
"""Postponements that are remembered. Each answers a request of ours; a peer that makes up more fills no memory."""

JITTER_ALLOWANCE: Final = 0.5
"""Seconds added to each period. The server counts arrivals: a send that was held up on its way arrives
closer to the next than it left."""

REQUESTED_BEATS: Final = 2
"""Slots a minute kept for heartbeats that the server asks for (op 1)."""

HANDSHAKE_SLOTS: Final = 1


class SlidingLog:
    """At most ``limit`` entries in any window of ``period`` seconds.

    An entry is made when it is decided to send, and corrected to the moment when the write was done: a window
    that started at the decision would end too early. An entry whose send did not happen is taken back.
    """

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._times: list[float] = []
        self._open = 0

    def used(self, now: float) -> int:
        """Return how many entries the window that ends now holds, decided sends included."""
        horizon = now - self.period
        while self._times and self._times[0] <= horizon:
            del self._times[0]
        return len(self._times) + self._open

    def wait(self, now: float, limit: int | None = None) -> float:
        """Return the seconds until an entry is allowed: 0.0 now, ``inf`` only after a decided send ended."""
        limit = self.limit if limit is None else limit
        excess = self.used(now) - limit + 1
        if excess <= 0:
            return 0.0
        if excess > len(self._times):
            return math.inf
        return max(0.0, self._times[excess - 1] + self.period - now)

    def take(self) -> None:
        """Enter a send that was decided. Ask `wait` first."""
        self._open += 1

    def commit(self, now: float) -> None:
        """A decided send was done just now."""
        self._open -= 1
        self._times.append(now)

    def give_back(self) -> None:
        """A decided send did not happen."""
        self._open -= 1


class Lane(Enum):
    """Who asks for one of the 120 slots. The more urgent, the more of them it may use."""

    USER = "user"
    REQUESTED_BEAT = "requested heartbeat"
    SCHEDULED_BEAT = "scheduled heartbeat"
    HANDSHAKE = "handshake"


class SendBudget:
    """The 120 payloads per 60 s of one connection.

    Slots are reserved so that heartbeats never wait for users: as many as scheduled beats fit into a window,
    and `REQUESTED_BEATS` for those the server asks for. A server that asks for more than that is answered as
    often as the limit allows, and never at the cost of a scheduled beat.

    Scheduled beats fill their own reserve, and are not counted against the others: at short intervals they would leave
    nothing.

    Args:
        interval: seconds between scheduled heartbeats.
    """

    def __init__(self, interval: float) -> None:
        self._all = SlidingLog(SEND_LIMIT, SEND_PERIOD + JITTER_ALLOWANCE)
        self._unscheduled = SlidingLog(SEND_LIMIT, SEND_PERIOD + JITTER_ALLOWANCE)
        self._limits: dict[Lane, int] = {}
        self._reserved = 0
        self.change_interval(interval)

    def change_interval(self, interval: float) -> None:
        """Reserve slots for heartbeats at another interval, in seconds."""
        # A window of 60 s holds one beat more than it has intervals, when it starts just before one. A longer interval
        # sets nothing free: the window may still be full of beats from before.
        self._reserved = max(self._reserved, math.ceil(self._all.period / interval) + 1)
        # The slot of the handshake stays free after it, for a beat whose write took long and counts a window longer.
        requested = SEND_LIMIT - self._reserved - HANDSHAKE_SLOTS
        self._limits = {
            Lane.USER: requested - REQUESTED_BEATS,
            Lane.REQUESTED_BEAT: requested,
            Lane.SCHEDULED_BEAT: SEND_LIMIT,
            Lane.HANDSHAKE: SEND_LIMIT,
        }

    def limit(self, lane: Lane) -> int:
        """Return how full the window, scheduled beats aside, may become by sends of this lane."""
        return self._limits[lane]

    def left(self, now: float, lane: Lane = Lane.USER) -> int:
        """Return how many payloads of this lane could be sent right now."""
        return max(0, min(SEND_LIMIT - self._all.used(now), self._limits[lane] - self._unscheduled.used(now)))

    def wait(self, now: float, lane: Lane) -> float:
        """Return the seconds until this lane may send."""
        return max(self._all.wait(now), self._unscheduled.wait(now, self._limits[lane]))

    def take(self, lane: Lane = Lane.USER) -> None:
        """Enter a send that was decided. Whatever is not said to be a scheduled beat counts against the users."""
        for log in self._logs(lane):
            log.take()

    def commit(self, now: float, lane: Lane = Lane.USER) -> None:
        """A decided send was done just now."""
        for log in self._logs(lane):
            log.commit(now)

    def give_back(self, lane: Lane = Lane.USER) -> None:
        """A decided send did not happen."""
        for log in self._logs(lane):
            log.give_back()

    def _logs(self, lane: Lane) -> tuple[SlidingLog, ...]:
        return (self._all,) if lane is Lane.SCHEDULED_BEAT else (self._all, self._unscheduled)


class BotLimits:
    """The limits that belong to the bot and outlive connections: presence, and full member lists.

    A limit is named by a key: ``"presence"``, or the guild id of a full member list.
    """

    def __init__(self) -> None:
        self._logs: dict[object, SlidingLog] = {}
        self._not_before: dict[object, float] = {}

    def wait(self, key: object, now: float) -> float:
        """Return the seconds until a send under this key is allowed. 0.0 for ``None``: no such limit."""
        log = self._logs.get(key)
        wait = 0.0 if log is None else log.wait(now)
        return max(wait, self._not_before.get(key, -math.inf) - now)

    def take(self, key: object) -> None:
        """Enter a send that was decided."""
        if key is not None:
            self._log(key).take()

    def commit(self, key: object, now: float) -> None:
        """A decided send was done just now."""
        if key is not None:
            self._log(key).commit(now)
            self._forget_idle(now)

    def give_back(self, key: object) -> None:
        """A decided send did not happen."""
        if key is not None:
            self._log(key).give_back()

    def postpone(self, key: object, until: float) -> None:
        """Discord said when to come back: allow nothing under this key before ``until``."""
        self._not_before.pop(key, None)
        self._not_before[key] = until
        if len(self._not_before) > POSTPONED:
            del self._not_before[next(iter(self._not_before))]

    def _log(self, key: object) -> SlidingLog:
        if key not in self._logs:
            self._logs[key] = (
                SlidingLog(PRESENCE_LIMIT, PRESENCE_PERIOD + JITTER_ALLOWANCE)
                if key == "presence"
                else SlidingLog(1, FULL_LIST_PERIOD + JITTER_ALLOWANCE)
            )
        return self._logs[key]

    def _forget_idle(self, now: float) -> None:
        # A bot in a hundred thousand guilds lists each of them once; their logs must not stay for ever.
        for key in [key for key, log in self._logs.items() if log.used(now) == 0]:
            del self._logs[key]
        for key in [key for key, until in self._not_before.items() if until <= now]:
            del self._not_before[key]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between attempts: exponential, with full jitter, all in seconds.

    Attributes:
        base: the longest first wait; doubled with each further failure in a row.
        cap: no wait between attempts is longer.
        identify_base: as ``base``, between new sessions. Session starts are limited to 1,000 a day.
        identify_cap: as ``cap``, between new sessions.
        prompt: so many times in ten minutes a connection that was ready for a second, if not for a minute, is followed
            by the next one without any wait. 0 or more.
    """

    base: float = 1.0
    cap: float = 60.0
    identify_base: float = 5.0
    identify_cap: float = 600.0
    prompt: int = 30

    def __post_init__(self) -> None:
        for name in ("base", "cap", "identify_base", "identify_cap"):
            value = getattr(self, name)
            if not (0 < value < math.inf):
                raise ValueError(f"Backoff.{name} must be a positive number of seconds, not {value!r}")
        if self.prompt < 0:
            raise ValueError(f"Backoff.prompt must be a number of reconnects, not {self.prompt!r}")

    def before_attempt(self, failures: int, random: Random) -> float:
        """Return the seconds to wait after so many failures in a row; 0.0 after none."""
        if failures <= 0:
            return 0.0
        return random.uniform(0.0, min(self.cap, self.base * 2.0 ** min(failures - 1, 30)))

    def before_identify(self, recent: int, random: Random) -> float:
        """Return the seconds to wait when so many sessions were started recently; 0.0 after none.

        Only the upper half is drawn from: identifies are the one thing that must never come in a rush.
        """
        if recent <= 0:
            return 0.0
        return random.uniform(0.5, 1.0) * min(self.identify_cap, self.identify_base * 2.0 ** min(recent - 1, 30))
