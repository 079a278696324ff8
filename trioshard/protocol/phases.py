"""When what may be said: the protocol of one connection as two tables.

A connection moves through these phases, and never back::

    CONNECTING ─> AWAITING_HELLO ─> GREETED ─┬─> IDENTIFYING ─┬─> READY ─> CLOSING ─> CLOSED
                                             └─> RESUMING ────┘

From every phase there is a way to CLOSING. There is no way from READY to a handshake: when the session has
to be renewed or resumed, that happens on a *new* connection with a new machine. So "a user's payload is in
flight while this connection shakes hands" is not a state that exists.

The tables map ``(phase, payload kind)`` to the next phase. **What is missing is illegal**: to send it would
earn a close code (4003 before READY or RESUMED, 4005 for a second Identify), and to receive it makes no
sense. No code elsewhere has to say so case by case.

Identify and Resume each occur in one cell, which leads out of the only phase that has them: they cannot
be sent twice, and not in any other phase. GREETED is apart from IDENTIFYING and RESUMING for that reason.
Heartbeats are legal from Hello to the end. Discord's pages say nothing about commands during the
handshake or the replay; they are held back.

After op 7 a server would still accept commands, after op 9 it answers them with 4003. trioshard writes
nothing after either: both lead to CLOSING.

Source: *Gateway*, connection lifecycle; *Opcodes and Status Codes*, close codes 4003 and 4005.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trioshard.protocol.opcodes import Opcode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HANDSHAKES", "RECEIVE", "SEND", "USER_COMMANDS", "Inbound", "Phase"]


class Phase(Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    """The WebSocket is being opened."""
    AWAITING_HELLO = "awaiting hello"
    """It is open; the server speaks first."""
    GREETED = "greeted"
    """Hello has come, heartbeats may go; neither Identify nor Resume was sent."""
    IDENTIFYING = "identifying"
    """Identify was sent, READY is awaited."""
    RESUMING = "resuming"
    """Resume was sent; missed events are replayed until RESUMED."""
    READY = "ready"
    """READY or RESUMED has come: commands may go."""
    CLOSING = "closing"
    """This connection is given up. Nothing is written any more but a close frame."""
    CLOSED = "closed"
    """It is gone."""


class Inbound(Enum):
    """What arrives, as far as the phases care."""

    HELLO = "HELLO"
    HEARTBEAT_REQUEST = "HEARTBEAT"
    HEARTBEAT_ACK = "HEARTBEAT_ACK"
    RECONNECT = "RECONNECT"
    INVALID_SESSION = "INVALID_SESSION"
    READY = "READY"
    RESUMED = "RESUMED"
    DISPATCH = "DISPATCH"
    """Any event but READY and RESUMED."""
    UNKNOWN = "UNKNOWN"
    """An opcode that nobody has documented."""


USER_COMMANDS: Final = frozenset(
    {
        Opcode.PRESENCE_UPDATE,
        Opcode.VOICE_STATE_UPDATE,
        Opcode.REQUEST_GUILD_MEMBERS,
        Opcode.REQUEST_SOUNDBOARD_SOUNDS,
        Opcode.REQUEST_CHANNEL_INFO,
    }
)
"""The closed set of what a user may send. Each needs an authenticated session."""

HANDSHAKES: Final = frozenset({Opcode.IDENTIFY, Opcode.RESUME})
"""What opens a session. The connection writes these itself; they are never queued and never retried."""

_GREETED_ON = (Phase.GREETED, Phase.IDENTIFYING, Phase.RESUMING, Phase.READY)

SEND: Final[Mapping[tuple[Phase, Opcode], Phase]] = MappingProxyType(
    {
        **{(phase, Opcode.HEARTBEAT): phase for phase in _GREETED_ON},
        (Phase.GREETED, Opcode.IDENTIFY): Phase.IDENTIFYING,
        (Phase.GREETED, Opcode.RESUME): Phase.RESUMING,
        **{(Phase.READY, command): Phase.READY for command in USER_COMMANDS},
    }
)
"""``(phase, opcode we want to send)`` to the phase after it was written."""

_OPEN = (Phase.AWAITING_HELLO, *_GREETED_ON)

RECEIVE: Final[Mapping[tuple[Phase, Inbound], Phase]] = MappingProxyType(
    {
        (Phase.AWAITING_HELLO, Inbound.HELLO): Phase.GREETED,
        # A second Hello was seen in the wild: new interval, same handshake.
        **{(phase, Inbound.HELLO): phase for phase in _GREETED_ON},
        **{(phase, Inbound.HEARTBEAT_REQUEST): phase for phase in _GREETED_ON},
        **{(phase, Inbound.HEARTBEAT_ACK): phase for phase in _GREETED_ON},
        # Op 7 may come at any time, even before or instead of Hello.
        **{(phase, Inbound.RECONNECT): Phase.CLOSING for phase in _OPEN},
        **{(phase, Inbound.INVALID_SESSION): Phase.CLOSING for phase in _GREETED_ON},
        # A broken write closes the gate before the reader has come to the end: what it finds there still counts.
        (Phase.CLOSING, Inbound.INVALID_SESSION): Phase.CLOSING,
        (Phase.IDENTIFYING, Inbound.READY): Phase.READY,
        (Phase.RESUMING, Inbound.DISPATCH): Phase.RESUMING,
        (Phase.RESUMING, Inbound.RESUMED): Phase.READY,
        (Phase.READY, Inbound.DISPATCH): Phase.READY,
        **{(phase, Inbound.UNKNOWN): phase for phase in _OPEN},
    }
)
"""``(phase, what arrived)`` to the phase after it. What is missing is noted and ignored."""
