"""What happened in one history: the account that the invariants judge, and the timeline that people read.

Nothing here decides anything. The users of the shard, the network and the observers write; `invariants` reads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import trio

from trioshard import Phase

if TYPE_CHECKING:
    from trioshard import Receipt
    from trioshard._simulation.network import Line

__all__ = ["Answer", "Call", "Dialled", "Opening", "Records", "Wait", "Write"]

Answer = Literal["pending", "receipt", "withdrawn", "closed", "queued", "refused"]
"""What a caller has in hand; `send_nowait` leaves him with "queued" or "refused"."""


@dataclass(slots=True)
class Call:
    """One command that a user handed over.

    Attributes:
        tag: a number that stands somewhere in the command, by which it is known on the wire.
        caller: the task that sent it.
        opcode: of the command.
        asked: when.
        guild: of a full member list, which is limited; ``None`` for anything else.
        answer: what came of it.
        answered: when.
        receipt: with the answer "receipt".
        cancelled: when the caller was cancelled, if he was.
    """

    tag: int
    caller: str
    opcode: int
    asked: float
    guild: int | None = None
    answer: Answer = "pending"
    answered: float | None = None
    receipt: Receipt | None = None
    cancelled: float | None = None


@dataclass(slots=True)
class Write:
    """One payload that the shard began to write, as seen between wire and transport.

    Attributes:
        line: the number of the line.
        opcode: of the payload.
        begun: when.
        phase: of the connection at the first byte.
        after_end: whether the end of the connection had been read, or it had been given up, before the first byte.
        finished: when the write had succeeded; ``None`` if it never did.
        interrupted: when it was cancelled, while nobody had read or decided the end of the connection.
        tag: the number of the command in it, if it is one.
        sequences: the last sequence that the shard had received before the first byte, and after the last.
    """

    line: int
    opcode: int
    begun: float
    phase: Phase
    after_end: bool
    finished: float | None = None
    interrupted: float | None = None
    tag: int | None = None
    sequences: tuple[int | None, int | None] = None, None


@dataclass(slots=True)
class Dialled:
    """One connection attempt.

    Attributes:
        line: the line, or ``None`` if nobody answered.
        epoch: the shard's number for it.
        at: when.
        life: which shard dialled, when one takes over the session of another.
        hello: when the shard read the first Hello.
        interval: the heartbeat interval of that Hello, in seconds.
        opened: when READY or RESUMED was read.
        resumed: whether it was RESUMED.
        ended: when the shard gave it up.
        verdict: what the shard says about why it ended. Known when the next one is dialled.
        troubles: the kinds of trouble that met it, and when each did first.
    """

    line: Line | None
    epoch: int
    at: float
    life: int
    hello: float | None = None
    interval: float | None = None
    opened: float | None = None
    resumed: bool = False
    ended: float | None = None
    verdict: str = ""
    troubles: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Opening:
    """READY or RESUMED was read."""

    at: float
    life: int
    resumed: bool
    session_id: str
    sequence: int


@dataclass(slots=True)
class Wait:
    """Somebody waited for readiness."""

    begun: float
    life: int
    ended: float | None = None
    phase: Phase | None = None
    """When he was woken. ``None`` if the shard was over."""


_BETWEEN: Final = "between"


class Records:
    """The account of one history."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.writes: list[Write] = []
        self.dialled: list[Dialled] = []
        self.openings: list[Opening] = []
        self.waits: list[Wait] = []
        self.heard: dict[tuple[int, str], list[tuple[int, str]]] = {}
        """Sequence and name of each dispatch that the main listener got, by life and session."""
        self.met: Counter[tuple[str, str]] = Counter()
        """How often each kind of trouble met each phase."""
        self.jumps: list[tuple[float, float]] = []
        """When time stood still for the process, and for how long."""
        self.dawdles: list[tuple[float, float]] = []
        """From when to when the main listener let events wait."""
        self.complaints: list[str] = []
        """What was found wrong on the spot."""
        self._timeline: list[tuple[float, str, tuple[object, ...]]] = []

    def tell(self, words: str, *details: object) -> None:
        """Add a line to the timeline. Details are put in when somebody reads it."""
        self._timeline.append((trio.current_time(), words, details))

    def meet(self, kind: str, phase: Phase) -> None:
        """Note that a trouble met a phase."""
        name = _BETWEEN if phase is Phase.CLOSED else phase.value
        self.met[kind, name] += 1
        self._timeline.append((trio.current_time(), "%s (while %s)", (kind, name)))

    def complain(self, words: str) -> None:
        """Note something that must not happen."""
        self.complaints.append(words)
        self.tell("WRONG: %s", words)

    def timeline(self) -> list[str]:
        """The history in words, a line for each thing that happened."""
        return [f"{time:10.4f}  {words % details if details else words}" for time, words, details in self._timeline]

    def digest(self) -> str:
        """A fingerprint of the whole history: every line of it, and every byte on the wire."""
        fingerprint = hashlib.sha256("\n".join(self.timeline()).encode())
        for dialled in self.dialled:
            if dialled.line is not None:
                fingerprint.update(dialled.line.up.taken)
                fingerprint.update(dialled.line.down.taken)
        return fingerprint.hexdigest()
