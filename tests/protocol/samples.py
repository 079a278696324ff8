"""Payloads and machines that several tests start from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trioshard.protocol import codec
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import Inbound, Phase
from trioshard.protocol.session import Session

if TYPE_CHECKING:
    from trioshard.protocol.codec import Envelope

SESSION = Session(id="5e55", sequence=40, resume_url="wss://resume.example/", shard=(1, 2), compress="zlib-stream")

READY_DATA: dict[str, Any] = {
    "v": 10,
    "user": {"id": "90", "username": "robot"},
    "guilds": [{"id": "7", "unavailable": True}],
    "session_id": "fresh",
    "resume_gateway_url": "wss://eu.example/",
    "shard": [0, 1],
    "application": {"id": "90", "flags": 0},
}


def payload(op: int, d: object = None, s: int | None = None, t: str | None = None) -> Envelope:
    """A payload as the codec would read it from the wire."""
    return codec.scan(json.dumps({"op": op, "d": d, "s": s, "t": t}))


def dispatch(name: str, s: int | None = None, d: object = None) -> Envelope:
    return payload(0, d, s, name)


def hello(interval: object = 45000) -> Envelope:
    return payload(10, {"heartbeat_interval": interval})


def ready(s: int | None = 1, **changes: object) -> Envelope:
    return dispatch("READY", s, READY_DATA | changes)


ARRIVALS: dict[Inbound, Envelope] = {
    Inbound.HELLO: hello(),
    Inbound.HEARTBEAT_REQUEST: payload(1),
    Inbound.HEARTBEAT_ACK: payload(11),
    Inbound.RECONNECT: payload(7),
    Inbound.INVALID_SESSION: payload(9, False),
    Inbound.READY: ready(s=50),
    Inbound.RESUMED: dispatch("RESUMED", 50),
    Inbound.DISPATCH: dispatch("MESSAGE_CREATE", 50),
    Inbound.UNKNOWN: payload(99, {"some": "thing"}),
}
"""One payload of each kind."""


def machine_in(phase: Phase, session: Session | None = None) -> Machine:
    """A machine that was led to a phase by what leads there on the wire."""
    if phase is Phase.RESUMING:
        session = session or SESSION
    machine = Machine(session=session)
    if phase is Phase.CONNECTING:
        return machine
    machine.connected()
    if phase is Phase.AWAITING_HELLO:
        return machine
    machine.receive(hello())
    if phase is Phase.GREETED:
        return machine
    machine.goes_out(machine.handshake)
    if phase in (Phase.IDENTIFYING, Phase.RESUMING):
        return machine
    machine.receive(ready() if machine.handshake is Opcode.IDENTIFY else dispatch("RESUMED", 41))
    if phase is Phase.READY:
        return machine
    machine.close()
    if phase is Phase.CLOSED:
        machine.closed()
    return machine
