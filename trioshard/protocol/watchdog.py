"""How long a handshake may take. All functions of ``now``.

Hello has a short deadline. READY is waited for patiently: in an outage the gateway issues the session when it
can, as long as it acknowledges heartbeats, and every retry would cost a session start. RESUMED is waited for
as long as the replay makes progress; ACKs alone buy it some time, but not for ever.

Source: *Gateway*, sending heartbeats (outages); the limits are ours, Discord names none.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Watchdog"]

HELLO_TIMEOUT: Final = 20.0
SILENCE: Final = 60.0
"""Seconds without a word, or one and a half heartbeat intervals if that is longer."""
READY_PATIENCE: Final = 900.0
RESUMED_PATIENCE: Final = 300.0
"""Seconds that ACKs alone can buy: for READY in all, for RESUMED since the last replayed event."""


class Watchdog:
    """The deadline of one connection's handshake.

    Attributes:
        deadline: when to give up, on the clock of ``now``; ``inf`` while nothing is overdue.
    """

    def __init__(self, now: float) -> None:
        self.deadline = now + HELLO_TIMEOUT
        self._silence = SILENCE
        self._latest = math.inf
        self._replaying = False
        self._running = False

    def greeted(self, interval: float) -> None:
        """Hello came. Until the handshake is written, the delay is our own: heartbeats watch the peer."""
        self._silence = max(SILENCE, 1.5 * interval)
        if not self._running:
            self.deadline = math.inf

    def shook_hands(self, now: float, *, resuming: bool) -> None:
        """Identify or Resume was written."""
        self._running = True
        self._replaying = resuming
        self._latest = now + (RESUMED_PATIENCE if resuming else READY_PATIENCE)
        self.heard(now, replayed=False)

    def heard(self, now: float, *, replayed: bool) -> None:
        """Something arrived; ``replayed`` if it was an event of the replay."""
        if not self._running:
            return
        if replayed and self._replaying:
            self._latest = now + RESUMED_PATIENCE
        self.deadline = min(now + self._silence, self._latest)

    def opened(self) -> None:
        """READY or RESUMED came."""
        self._running = False
        self.deadline = math.inf
