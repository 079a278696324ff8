"""What is drawn once for a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trioshard import Phase
from trioshard._open_transport import require_websockets
from trioshard.errors import MissingDependency
from trioshard.protocol.compression import require_zstd

if TYPE_CHECKING:
    from random import Random

    from trioshard.protocol.compression import Compression

__all__ = ["ENDINGS", "LAST_ACTS", "Setup", "available_compressions", "available_transports"]

PROMPT_RECONNECTS: Final = 3
"""So many times in ten minutes a connection that was ready for a second is followed by the next one at once."""

LAST_ACTS: Final = ("fatal close", "the block is left", "the block is cancelled", "the block fails")
"""What ends a history early."""

ENDINGS: Final = ("calm", "calm, and a second life", *LAST_ACTS)
"""How a history may end."""

LAST_PHASES: Final = (Phase.AWAITING_HELLO, Phase.GREETED, Phase.IDENTIFYING, Phase.RESUMING, *[Phase.READY] * 2)
"""The phases of the shard's connection in which its history may end early."""


def available_transports() -> tuple[str, ...]:
    """Return the transports that can be used here."""
    try:
        require_websockets()
    except MissingDependency:
        return ("trio-websocket",)
    return ("trio-websocket", "websockets")


def available_compressions() -> tuple[Compression, ...]:
    """Return the compressions that can be used here."""
    try:
        require_zstd()
    except MissingDependency:
        return ("zlib-stream", "payload", None)
    return ("zlib-stream", "zstd-stream", "payload", None)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is drawn once for a history. Times are virtual seconds."""

    transport: str
    compress: Compression
    write_timeout: float
    heartbeat_interval: float
    queue_capacity: int
    senders: int
    pace: float
    """Between two commands of one sender, on average."""
    event_pace: float
    """Between two bursts of events, on average."""
    capacity: int
    """Events that the main listener's outbox holds."""
    slowness: float
    """How often the main listener dawdles."""
    early_in_a_row: int
    """So many connections in a row may end before READY or RESUMED."""
    flood: int | None
    """The number of the connection on which more is sent than Discord allows."""
    end: str
    """One of `ENDINGS`."""
    last_phase: Phase
    """In which the history ends, unless it becomes calm."""

    @classmethod
    def draw(cls, random: Random) -> Setup:
        """Draw one."""
        senders = random.randint(2, 6)
        return cls(
            transport=random.choice(available_transports()),
            compress=random.choice(available_compressions()),
            write_timeout=random.choice((0.8, 3.0, 10.0)),
            heartbeat_interval=random.uniform(2.0, 12.0),
            queue_capacity=random.choice((2, 8, 256)),
            senders=senders,
            pace=senders * random.uniform(0.12, 0.3),
            event_pace=random.uniform(1.0, 2.6),
            capacity=random.choice((1, 3, 16, 1024)),
            slowness=random.choice((0.0, 0.05, 0.2)),
            early_in_a_row=8 if random.random() < 0.04 else 3,
            flood=random.randrange(2, 12) if random.random() < 0.08 else None,
            end=random.choice((*("calm",) * 5, *("calm, and a second life",) * 2, *LAST_ACTS)),
            last_phase=random.choice(LAST_PHASES),
        )
