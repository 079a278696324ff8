"""What the line between bot and gateway does to a connection. Pure: drawn here, made in `line`.

Two rules keep the line fair:

- What the client wrote reaches the gateway within `LATEST`, or never. A stall of the client's side that lasts longer
  ends with the end of the connection, and what it held up is gone. So the gateway's limits, which count arrivals, can
  be read with that much tolerance. What the gateway wrote may come as late as it likes: nobody is reproached for it.
- Every other connection is spared for its first `SPARED` seconds. Five handshakes in a row that came to nothing are
  proof to a shard that its session does not work, and a line that breaks each of them would make it right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "Cut",
    "Drip",
    "End",
    "HalfClose",
    "Stall",
    "Trouble",
    "Way",
    "draw_first_wait",
    "draw_next_wait",
    "draw_trouble",
]

LATEST: Final = 1.2
"""Seconds by which the line delivers the client's bytes late, at most; a busy machine may add to it."""

SHORT_STALL: Final = (0.1, 1.0)
LONG_STALL: Final = (1.5, 3.5)
"""Seconds, from and to. The long ones outlast the write timeout of the soak, and its zombie verdict."""

SPARED: Final = 0.4
"""Seconds for which every other connection is left alone, enough for a handshake."""

LIFE: Final = 0.8
"""Seconds before a trouble, at most."""

LEFT_ALONE: Final = 0.08
"""How many of the connections have no trouble at all, so that some live to miss a heartbeat if none comes."""

EARLY: Final = 0.2
"""Seconds in which a handshake happens, and replays."""

_DRIPPED: Final = (20, 200)
_DRIP_PAUSE: Final = 0.002

_BREATH: Final = 0.2
"""Seconds, at least, between two troubles of one connection: what the first held up has left by then."""


class Way(Enum):
    """A direction."""

    UP = "from the client to the gateway"
    DOWN = "from the gateway to the client"


class End(Enum):
    """How the line ends a connection: which sides get RST, and which FIN."""

    CLOSE = "FIN to both"
    RESET = "RST to both"
    RESET_CLIENT = "RST to the client, FIN to the gateway"
    RESET_GATEWAY = "FIN to the client, RST to the gateway"


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection after so many more bytes in one direction, mostly in the middle of a frame."""

    way: Way
    after: int
    end: End

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return "cut" if self.end is End.CLOSE else "reset"


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Say FIN in one direction, and go on in the other for so many seconds."""

    way: Way
    linger: float

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return "half_close"


@dataclass(frozen=True, slots=True)
class Stall:
    """Read nothing from one side for so many seconds, so that its buffers fill; then go on, or end the connection."""

    way: Way
    seconds: float
    end: End | None

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return "stall"


@dataclass(frozen=True, slots=True)
class Drip:
    """Deliver so many bytes one by one, with a pause in seconds after each."""

    way: Way
    nbytes: int
    pause: float

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return "drip"


Trouble = Cut | HalfClose | Stall | Drip

_WEIGHTS: Final = {"cut": 6.0, "half_close": 1.0, "short stall": 1.0, "long stall": 1.2, "drip": 1.0}


def draw_first_wait(random: Random, *, spared: bool) -> float:
    """Draw the seconds before the first trouble of a connection, often in the midst of its handshake; or for ever."""
    if random.random() < LEFT_ALONE:
        return math.inf
    if spared:
        return random.uniform(SPARED, LIFE)
    return random.uniform(0.0, EARLY) if random.random() < 0.5 else random.uniform(0.0, LIFE)


def draw_next_wait(random: Random) -> float:
    """Draw the seconds between a trouble that the connection has survived and the next."""
    return random.uniform(_BREATH, LIFE)


def draw_trouble(random: Random) -> Trouble:
    """Draw what happens then."""
    kind = random.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    way = random.choice(tuple(Way))
    if kind == "cut":
        return Cut(way, random.choice((1, random.randint(1, 40), random.randint(1, 2_000))), _draw_end(random))
    if kind == "half_close":
        return HalfClose(way, random.uniform(0.0, 0.8))
    if kind == "drip":
        return Drip(way, random.randint(*_DRIPPED), random.uniform(0.0, _DRIP_PAUSE))
    if kind == "short stall":
        return Stall(way, random.uniform(*SHORT_STALL), None)
    lets_go = way is Way.DOWN and random.random() < 0.5
    return Stall(way, random.uniform(*LONG_STALL), None if lets_go else _draw_end(random))


def _draw_end(random: Random) -> End:
    return random.choice(tuple(End))
