"""What the gateway does with the connections of one run. Orchestrator and gateway exchange it as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CALM", "CLOSE", "RECONNECT", "RESET", "Play"]

CLOSE: Final = "close"
"""A close frame with 4000."""

RECONNECT: Final = "op 7"
RESET: Final = "reset"
"""The TCP connection is torn down without a word."""

CALM: Final = 62.0
"""Seconds after which every client that was measured has forgotten earlier trouble."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """What happens on the connections of a run.

    Attributes:
        live: whether the gateway answers as it goes; otherwise it plays a recording.
        connections: how many there are; the events begin when all are there.
        warmup: how many events of the recording each gets at first; then there is a pause, in which clients come to
            rest.
        events: how many each gets after that.
        rate: events a second on each connection; 0 is as fast as the socket takes them.
        interval: milliseconds between heartbeats, when live.
        with_guild: whether READY names a guild, when live.
        disconnects: how a live connection is broken, one after the other.
        pause: seconds between RESUMED and the next disconnect.
    """

    live: bool = False
    connections: int = 1
    warmup: int = 0
    events: int = 0
    rate: float = 0.0
    interval: int = 41_250
    with_guild: bool = True
    disconnects: tuple[str, ...] = ()
    pause: float = 1.5
