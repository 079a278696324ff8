"""One connection attempt as a state machine: what arrives goes in, what has to happen comes out.

The machine knows nothing of sockets, clocks and tasks. Its owner asks `admit`, tells it that the payload
`goes_out`, and writes, all under one hold of the state lock. What arrives is handed to
`receive`, which answers with one effect to be carried out. When `moves` names a phase that a payload leads
to, the owner takes the state lock first.

The machine's `phase` only moves forward (see `trioshard.protocol.phases`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from trioshard.errors import GatewayProtocolError
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import HANDSHAKES, RECEIVE, SEND, Inbound, Phase
from trioshard.protocol.pulse import heartbeat_interval
from trioshard.protocol.session import Session

if TYPE_CHECKING:
    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.compression import TransportCompression

__all__ = [
    "Acked",
    "BeatNow",
    "Deliver",
    "Effect",
    "Greet",
    "Ignored",
    "Machine",
    "Notice",
    "Open",
    "Reconnect",
    "SessionInvalidated",
]


@dataclass(frozen=True, slots=True)
class Greet:
    """Hello came: beat every ``interval`` seconds; on the ``first`` one, shake hands as well."""

    interval: float
    first: bool


@dataclass(frozen=True, slots=True)
class BeatNow:
    """The server asks for a heartbeat."""


@dataclass(frozen=True, slots=True)
class Acked:
    """A heartbeat was acknowledged."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """An event for the subscribers."""


@dataclass(frozen=True, slots=True)
class Open:
    """READY or RESUMED: an event for the subscribers, and the gate for commands is open."""

    session: Session
    resumed: bool


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Op 7: leave this connection at once and come back."""


@dataclass(frozen=True, slots=True)
class SessionInvalidated:
    """Op 9: leave this connection; the session lives on only if ``resumable``."""

    resumable: bool


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing is to be done. ``why`` is for the log."""

    why: str


Notice = Greet | BeatNow | Acked | Open | Reconnect | SessionInvalidated | Ignored
"""What the connection has to deal with."""

Effect = Deliver | Notice

_T = TypeVar("_T")

_DELIVER: Final = Deliver()
_ACKED: Final = Acked()
_BEAT_NOW: Final = BeatNow()

_INBOUND: Final = {
    Opcode.HELLO: Inbound.HELLO,
    Opcode.HEARTBEAT: Inbound.HEARTBEAT_REQUEST,
    Opcode.HEARTBEAT_ACK: Inbound.HEARTBEAT_ACK,
    Opcode.RECONNECT: Inbound.RECONNECT,
    Opcode.INVALID_SESSION: Inbound.INVALID_SESSION,
}


_LONGEST_ID: Final = 512
"""Characters. Discord's have 32; one that does not fit into a Resume is of no use."""


class _HelloData(msgspec.Struct):
    heartbeat_interval: object = None


class _ReadyData(msgspec.Struct):
    session_id: str
    resume_gateway_url: str


class Machine:
    """The protocol state of one connection.

    Args:
        session: the session to resume, or ``None`` to identify.
        shard: the ``(shard_id, num_shards)`` to identify as.
        compress: the transport compression of this connection; a new session remembers it.
    """

    def __init__(
        self,
        *,
        session: Session | None,
        shard: tuple[int, int] = (0, 1),
        compress: TransportCompression | None = None,
    ) -> None:
        self.phase = Phase.CONNECTING
        self.reached = Phase.CONNECTING
        """The last phase before this connection was given up."""
        self.session = session
        """The session this connection stands in; ``None`` while it has none."""
        self._shard = shard
        self._compress: TransportCompression | None = compress
        self.sequence = session.sequence if session is not None else None
        """The last sequence received: what a heartbeat carries, and a Resume in this process would ask from."""

    def connected(self) -> None:
        """The WebSocket is open."""
        if self.phase is Phase.CONNECTING:
            self._move_to(Phase.AWAITING_HELLO)

    def close(self) -> None:
        """Give the connection up. From here on nothing is admitted."""
        if self.phase is not Phase.CLOSED:
            self._move_to(Phase.CLOSING)

    def closed(self) -> None:
        """The connection is gone."""
        self._move_to(Phase.CLOSED)

    def _move_to(self, phase: Phase) -> None:
        self.phase = phase
        if phase not in (Phase.CLOSING, Phase.CLOSED):
            self.reached = phase

    @property
    def handshake(self) -> Opcode:
        """Which of Identify and Resume this connection opens with."""
        return Opcode.IDENTIFY if self.session is None else Opcode.RESUME

    def admit(self, opcode: Opcode) -> bool:
        """Return whether ``opcode`` may be written in this phase.

        The answer holds as long as the phase does: ask it under the state lock, and write under the same
        hold of it.
        """
        if opcode in HANDSHAKES and opcode is not self.handshake:
            return False
        return (self.phase, opcode) in SEND

    def goes_out(self, opcode: Opcode) -> None:
        """An admitted payload is written now: move to the phase that follows.

        Said before its first byte leaves: the answer may be read before the write has returned. A write that
        breaks ends the connection anyway.
        """
        self._move_to(SEND[self.phase, opcode])

    def runs_on(self, envelope: Envelope) -> bool:
        """Return whether this is an event of a running session, for which `receive` would say `Deliver`."""
        return self.phase is Phase.READY and envelope.op == 0 and envelope.t != "RESUMED" and envelope.t != "READY"

    def moves(self, envelope: Envelope) -> Phase | None:
        """Return the phase that `receive` of this payload will lead to, or ``None`` if it changes nothing.

        A payload that moves is to be received under the state lock.
        """
        following = RECEIVE.get((self.phase, _classify(envelope)), self.phase)
        return None if following is self.phase else following

    def receive(self, envelope: Envelope) -> Effect:
        """Take what arrived, and say what has to happen.

        Raises:
            GatewayProtocolError: its data cannot be right. The phase and sequence are as before.
        """
        if self.runs_on(envelope):
            self._advance(envelope.s)
            return _DELIVER
        inbound = _classify(envelope)
        following = RECEIVE.get((self.phase, inbound))
        if following is None:
            return Ignored(f"{envelope.t or inbound.value} while {self.phase.value}")
        effect = self._effect(inbound, envelope)
        self._move_to(following)
        return effect

    def _effect(self, inbound: Inbound, envelope: Envelope) -> Effect:
        match inbound:
            case Inbound.DISPATCH:
                self._advance(envelope.s)
                return _DELIVER
            case Inbound.HEARTBEAT_ACK:
                return _ACKED
            case Inbound.HEARTBEAT_REQUEST:
                return _BEAT_NOW
            case Inbound.HELLO:
                data = _data(envelope, _HelloData)
                interval = heartbeat_interval(data.heartbeat_interval)
                return Greet(interval, first=self.phase is Phase.AWAITING_HELLO)
            case Inbound.READY:
                return self._ready(envelope)
            case Inbound.RESUMED:
                return self._resumed(envelope)
            case Inbound.RECONNECT:
                return Reconnect()
            case Inbound.INVALID_SESSION:
                # Only a literal true resumes.
                return SessionInvalidated(resumable=bytes(envelope.d).strip() == b"true")
            case Inbound.UNKNOWN:
                return Ignored(f"unknown opcode {envelope.op}")

    def _ready(self, envelope: Envelope) -> Effect:
        data = _data(envelope, _ReadyData)
        if len(data.session_id) > _LONGEST_ID:
            raise GatewayProtocolError(f"READY came with a session_id of {len(data.session_id)} characters")
        self._advance(envelope.s)
        self.session = Session(
            id=data.session_id,
            sequence=self.sequence or 0,
            resume_url=data.resume_gateway_url,
            shard=self._shard,
            compress=self._compress,
        )
        return Open(self.session, resumed=False)

    def _resumed(self, envelope: Envelope) -> Effect:
        # No READY comes: id and resume URL of the last one stay valid.
        self._advance(envelope.s)
        assert self.session is not None
        self.session = self.session.at(self.sequence or 0)
        return Open(self.session, resumed=True)

    def _advance(self, sequence: int | None) -> None:
        # Never backwards: a lower number would only make Discord replay what was delivered.
        if sequence is not None and (self.sequence is None or sequence > self.sequence):
            self.sequence = sequence

    def current_session(self) -> Session | None:
        """Return the session with the last received sequence, or ``None`` before READY."""
        if self.session is None or self.sequence is None:
            return self.session
        return self.session.at(self.sequence)


def _classify(envelope: Envelope) -> Inbound:
    if envelope.op == Opcode.DISPATCH:
        match envelope.t:
            case "READY":
                return Inbound.READY
            case "RESUMED":
                return Inbound.RESUMED
            case _:
                return Inbound.DISPATCH
    try:
        return _INBOUND[Opcode(envelope.op)]
    except (ValueError, KeyError):
        return Inbound.UNKNOWN


def _data(envelope: Envelope, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(envelope.d, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        name = envelope.t or Opcode(envelope.op).name
        raise GatewayProtocolError(f"{name} came with data that make no sense: {exc}") from exc
