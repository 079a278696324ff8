"""Which of the gateway's reproaches are the line's doing. Pure.

The gateway counts arrivals, and the line may have kept what arrives for `TOLERANCE` seconds. Three of its rules depend
on when something arrives:

- **Heartbeats.** The gateway is opened with a grace that covers the longest stall (`HEARTBEAT_GRACE`).
- **Identifies**, one in 5 s. The gateway is opened with a window that is shorter by the tolerance (`IDENTIFY_WINDOW`).
- **Presences**, five in 20 s, which is no argument of the gateway. It reports them all; those that would be none had
  the earlier ones arrived `TOLERANCE` earlier are forgiven here (`PresenceRule`).

The 120 payloads in 60 s need no tolerance: no connection lives that long while there is trouble (`LIFETIME`), so all
that it sends fits into one window. Whatever else the gateway objects to has nothing to do with time, and counts.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from trioshard._soak.trouble import LATEST, LONG_STALL

__all__ = ["HEARTBEAT_GRACE", "IDENTIFY_WINDOW", "LIFETIME", "TOLERANCE", "PresenceRule"]

TOLERANCE: Final = LATEST + 1.3
"""Seconds that a payload may be late: the line's own doing, and what a busy machine adds."""

HEARTBEAT_GRACE: Final = LONG_STALL[1] + 3.0
IDENTIFY_WINDOW: Final = 5.0 - TOLERANCE
LIFETIME: Final = (0.1, 14.0)
"""Seconds from READY or RESUMED until the gateway ends a connection, from and to."""

_PRESENCES: Final = 5
_WINDOW: Final = 20.0
_JITTER: Final = 0.05
"""The gateway's own."""


class PresenceRule:
    """Judges presences with the tolerance: five in any 20 s less `TOLERANCE`."""

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=_PRESENCES)
        self.broken = 0
        """Presences that came too early even so."""

    def arrive(self, time: float) -> None:
        """Enter an arrival. They come in order of time."""
        if len(self._arrivals) == _PRESENCES and time - self._arrivals[0] < _WINDOW - _JITTER - TOLERANCE:
            self.broken += 1
        self._arrivals.append(time)
