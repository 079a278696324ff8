"""The heartbeat as arithmetic: when to beat, and whether the peer is still there. All functions of ``now``.

A peer is given up (a *zombie*) when an ACK is missing **and** nothing at all was read for a whole interval
**and** the reader was free to read. Anything that arrives is a sign of life; and while a slow subscriber
holds the reader back, silence is our own doing. An ACK that stays out for three intervals of free reading is a
verdict even while data flows.

Source: *Gateway*, sending heartbeats; the widening of the rule is ours.
"""

from __future__ import annotations

import math
from typing import Final

from trioshard.errors import GatewayProtocolError

__all__ = ["MIN_INTERVAL", "Pulse", "heartbeat_interval"]

MIN_INTERVAL: Final = 1.0
"""Seconds. A shorter interval is raised to this: more beats would not fit into 120 payloads a minute."""

MAX_INTERVAL: Final = 3600.0
"""Seconds. Discord's is about 41; nobody who asks for more than an hour means it."""

_OVERDUE_INTERVALS: Final = 3

_EARLIEST: Final = 0.25
"""The share of an interval by which a beat may come before its time, at most."""


def heartbeat_interval(milliseconds: object) -> float:
    """Return the seconds that a ``heartbeat_interval`` from Hello stands for.

    Raises:
        GatewayProtocolError: it is no number, not positive, or longer than an hour.
    """
    # Compared before it is divided: an integer may be too large for a float.
    if (
        isinstance(milliseconds, int | float)
        and not isinstance(milliseconds, bool)
        and 0 < milliseconds <= MAX_INTERVAL * 1000
    ):
        return max(milliseconds / 1000, MIN_INTERVAL)
    raise GatewayProtocolError(f"Hello came with an impossible heartbeat_interval: {milliseconds!r}")


class Pulse:
    """The account of one connection's heartbeats.

    Args:
        interval: seconds between beats.
        now: the moment of Hello.
        jitter: the first beat comes after this share (0 to 1) of an interval.
    """

    def __init__(self, interval: float, now: float, jitter: float) -> None:
        self.interval = interval
        self.next_beat = now + interval * jitter
        self.last_read = now
        self.last_ack: float | None = None
        self.latency: float | None = None
        """Seconds between the last acknowledged beat and its ACK."""
        self._free_since: float = now
        self._blocked_since: float | None = None
        self._blocked = 0.0
        self._blocked_before = 0.0
        self._unanswered: float | None = None
        self._last_scheduled: float = -math.inf

    def change_interval(self, interval: float, now: float) -> None:
        """A second Hello named another interval."""
        self.interval = interval
        self.next_beat = min(self.next_beat, now + interval)

    def beat_due(self, now: float) -> bool:
        """Return whether the scheduled beat should go out."""
        return now >= self.next_beat

    def may_beat_early(self, now: float, seconds: float) -> bool:
        """Return whether the scheduled beat may go out now because it is due within so many seconds.

        Not the first, whose time is drawn; not when that is a large part of the interval; and not while an ACK is
        missing, for the next beat is when the peer is judged.
        """
        return (
            self._last_scheduled > -math.inf
            and self._unanswered is None
            and seconds <= self.interval * _EARLIEST
            and self.next_beat - now < seconds
        )

    def scheduled_beat_sent(self, now: float) -> None:
        """The scheduled beat was written. The next one is a whole interval away: a late beat is not caught up."""
        self.next_beat = now + self.interval
        self._last_scheduled = now
        self.beat_sent(now)

    def beat_sent(self, now: float) -> None:
        """Any beat was written. One that was asked for leaves the timer alone."""
        if self._unanswered is None:
            self._unanswered = now
            self._blocked_before = self._blocked_through(now)

    def acked(self, now: float) -> None:
        """An ACK arrived. It has no number: it is taken to answer everything sent before."""
        if self._unanswered is None:
            return
        # With several beats out, the oldest is the honest one to measure from.
        self.latency = now - self._unanswered
        self._unanswered = None
        self.last_ack = now

    def read(self, now: float) -> None:
        """Something arrived."""
        self.last_read = now

    def reader_blocked(self, now: float) -> None:
        """The reader waits for a subscriber: from now on silence is no evidence."""
        self._free_since = math.inf
        self._blocked_since = now

    def reader_free(self, now: float) -> None:
        """The reader reads again."""
        self._free_since = now
        self._blocked = self._blocked_through(now)
        self._blocked_since = None

    def _blocked_through(self, now: float) -> float:
        """Return for how many seconds in all the reader has been blocked."""
        return self._blocked + (0.0 if self._blocked_since is None else now - self._blocked_since)

    def is_zombie(self, now: float) -> bool:
        """Return whether to give the peer up. Asked when the next beat is due."""
        if self._unanswered is None:
            return False
        ever_since = self._last_scheduled
        if self._unanswered <= ever_since and self.last_read <= ever_since and self._free_since <= ever_since:
            return True
        # A reader that is held up for a moment now and then, as behind any slow subscriber, is free in between.
        blocked = self._blocked_through(now) - self._blocked_before
        return now - self._unanswered - blocked >= _OVERDUE_INTERVALS * self.interval
