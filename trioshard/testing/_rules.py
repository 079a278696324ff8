"""The judge: what one connection may send, and what becomes of it when it does otherwise.

Pure: no I/O, no clock; `now` comes in as seconds on any clock that does not run backwards.

The gateway tells a :class:`Judge` what it has *sent* (Hello, READY, Invalid Session, …), and asks it about
everything that arrives. A phase changes when the first byte of the payload that changes it is about to leave:
from then on a client may know, so from then on it may act.

::

    AWAITING_HELLO ── Hello ──▶ HELLO_SENT ── Identify ──▶ IDENTIFYING ── READY ────▶ READY
                                    └──────── Resume ────▶ RESUMING ───── RESUMED ──▶ READY
    HELLO_SENT, IDENTIFYING, RESUMING, READY ── Invalid Session ──▶ INVALIDATED ── Identify, Resume ──▶ as above
    any ── close ──▶ CLOSING

Reconnect (op 7) changes nothing here: until the connection is closed, what was legal stays legal.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trioshard.testing._shapes import Body, read_body

PAYLOAD_LIMIT: Final = 4096
"""Bytes of a serialized payload from a client."""
RATE_LIMIT: Final = 120
"""Payloads that a connection may send in any `RATE_WINDOW`."""
RATE_WINDOW: Final = 60.0
"""Seconds."""
JITTER: Final = 0.05
"""Seconds by which windows are shorter here than in the rules: the wire may bring two payloads closer
together than they were sent, and that is not the client's doing."""


class Op(enum.IntEnum):
    """Every opcode that Discord documents."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE_UPDATE = 3
    VOICE_STATE_UPDATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_GUILD_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDBOARD_SOUNDS = 31
    REQUEST_CHANNEL_INFO = 43


class Phase(enum.Enum):
    """How far a connection is, in the eyes of the gateway."""

    AWAITING_HELLO = "awaiting hello"
    HELLO_SENT = "hello sent"
    IDENTIFYING = "identifying"
    RESUMING = "resuming"
    READY = "ready"
    INVALIDATED = "invalidated"
    CLOSING = "closing"


COMMANDS: Final = frozenset(
    {
        Op.PRESENCE_UPDATE,
        Op.VOICE_STATE_UPDATE,
        Op.REQUEST_GUILD_MEMBERS,
        Op.REQUEST_SOUNDBOARD_SOUNDS,
        Op.REQUEST_CHANNEL_INFO,
    }
)
"""What needs a session: legal in READY and nowhere else."""

_HANDSHAKES: Final = frozenset({Op.IDENTIFY, Op.RESUME})
_CLIENT_OPS: Final = COMMANDS | _HANDSHAKES | {Op.HEARTBEAT}

_LEGAL: Final[dict[Phase, frozenset[Op]]] = {
    Phase.AWAITING_HELLO: frozenset(),
    Phase.HELLO_SENT: _HANDSHAKES | {Op.HEARTBEAT},
    Phase.IDENTIFYING: frozenset({Op.HEARTBEAT}),
    Phase.RESUMING: frozenset({Op.HEARTBEAT}),
    Phase.READY: COMMANDS | {Op.HEARTBEAT},
    # Discord does not ask for a new socket after Invalid Session, though it recommends one.
    Phase.INVALIDATED: _HANDSHAKES | {Op.HEARTBEAT},
    Phase.CLOSING: frozenset(),
}
"""What may arrive in each phase. What is missing here is illegal."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A payload that was legal."""

    op: Op
    body: Body
    raw: object
    """`d` as it was decoded, before its shape was read."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """A payload that was on its way while the gateway ended the session or the connection."""

    op: int | None
    raw: object
    close: int | None
    """The close code to answer with; None when the connection is being closed already."""


@dataclass(frozen=True, slots=True)
class Offence:
    """A payload that breaks a rule."""

    kind: str
    detail: str
    close: int | None
    """The close code to answer with; None when Discord puts up with it."""


Judgement = Accepted | Crossed | Offence


class SlidingWindow:
    """At most `limit` events in any `seconds`. Keeps no more than `limit` times."""

    __slots__ = ("_limit", "_seconds", "_times")

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds - JITTER
        self._times: deque[float] = deque(maxlen=limit)

    def admit(self, now: float) -> bool:
        """Count an event at `now`, and say whether it was within the limit. Refused ones are not counted."""
        if len(self._times) == self._limit and now - self._times[0] < self._seconds:
            return False
        self._times.append(now)
        return True

    def forgive(self) -> None:
        """Forget the past."""
        self._times.clear()


class Judge:
    """The account of one connection."""

    __slots__ = ("_backlog_allowance", "_rate", "_stalled_until", "_was_ready", "beats_due", "grace", "phase")

    def __init__(self, *, grace: float) -> None:
        self.phase = Phase.AWAITING_HELLO
        self.grace = grace
        """Seconds by which a heartbeat may be late."""
        self.beats_due = math.inf
        """When the next heartbeat is overdue; for ever before Hello."""
        self._was_ready = False
        self._rate = SlidingWindow(RATE_LIMIT, RATE_WINDOW)
        self._backlog_allowance = 0
        self._stalled_until = -math.inf

    # What the gateway sent.

    def hello_sent(self, now: float, interval: float) -> None:
        """Hello leaves. `interval` in seconds; infinite when the client cannot be held to it."""
        self.phase = Phase.HELLO_SENT
        self.beats_due = now + interval + self.grace

    def session_started(self) -> None:
        """READY or RESUMED leaves."""
        self.phase = Phase.READY

    def session_invalidated(self) -> None:
        """Invalid Session leaves."""
        if self.phase is not Phase.INVALIDATED:
            self._was_ready = self.phase is Phase.READY
        self.phase = Phase.INVALIDATED

    def close_sent(self) -> None:
        """A close frame leaves."""
        self.phase = Phase.CLOSING
        self.beats_due = math.inf

    def stalled(self, seconds: float, now: float) -> None:
        """The gateway does not read for so long: what arrives late is its own fault."""
        self.beats_due += seconds
        self._stalled_until = now + seconds
        self._rate.forgive()
        if math.isfinite(seconds):
            self._backlog_allowance += RATE_LIMIT * (1 + math.ceil(seconds / RATE_WINDOW))

    # What arrives.

    def beat(self, now: float, interval: float) -> None:
        """A heartbeat came: the next one may take `interval` seconds, and the grace."""
        # One that was read already when a stall began says nothing of the time after it.
        self.beats_due = max(now, self._stalled_until) + interval + self.grace

    def receive(self, message: str | bytes, now: float) -> Judgement:
        """Judge one message."""
        if self.phase is Phase.CLOSING:
            return self._crossed_close(message)
        if not self._within_rate(now):
            return Offence("rate_limited", f"more than {RATE_LIMIT} payloads in {RATE_WINDOW:g} s", 4008)
        envelope = _read_envelope(message)
        if isinstance(envelope, Offence):
            return envelope
        number, data = envelope
        if number not in _CLIENT_OPS:
            return Offence("unknown_opcode", f"op {number} is not for clients to send", 4001)
        op = Op(number)
        if op not in _LEGAL[self.phase]:
            return self._out_of_turn(op, data)
        try:
            body = read_body(op, data)
        except msgspec.ValidationError as error:
            return Offence("invalid_data", f"op {op.value} ({op.name}): {error}", 4001)
        if op is Op.IDENTIFY:
            self.phase = Phase.IDENTIFYING
        elif op is Op.RESUME:
            self.phase = Phase.RESUMING
        return Accepted(op, body, data)

    def _within_rate(self, now: float) -> bool:
        if self._rate.admit(now):
            return True
        if self._backlog_allowance > 0:
            self._backlog_allowance -= 1
            return True
        return False

    def _out_of_turn(self, op: Op, data: object) -> Judgement:
        where = f"op {op.value} ({op.name}) in phase {self.phase.value!r}"
        if op in _HANDSHAKES and self.phase is not Phase.AWAITING_HELLO:
            return Offence("already_authenticated", where, 4005)
        if op in COMMANDS and self.phase is Phase.INVALIDATED and self._was_ready:
            return Crossed(op, data, 4003)
        return Offence("not_authenticated", where, 4003)

    def _crossed_close(self, message: str | bytes) -> Crossed:
        envelope = _read_envelope(message)
        if isinstance(envelope, Offence):
            return Crossed(None, None, None)
        return Crossed(*envelope, close=None)


class _Envelope(msgspec.Struct):
    """The part of a payload that all of them share."""

    op: int
    d: Any = None


def _read_envelope(message: str | bytes) -> tuple[int, object] | Offence:
    """`op` and `d` of a message. Nothing of the message enters the detail: it may hold a token."""
    # Text is the rule; JSON in a binary message is what some clients in use send, and Discord takes it.
    size = len(message if isinstance(message, bytes) else message.encode())
    if size > PAYLOAD_LIMIT:
        return Offence("too_large", f"{size} bytes; at most {PAYLOAD_LIMIT} are taken", 4002)
    try:
        envelope = msgspec.json.decode(message, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Offence("decode_error", f"not a payload: {error}", 4002)
    return envelope.op, envelope.d
