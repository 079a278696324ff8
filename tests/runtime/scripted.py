"""A transport that does what the test says, and records what was written, and in which phase."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import trio

from trioshard.errors import ConnectionLost
from trioshard.protocol.codec import Envelope, scan
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import Phase

if TYPE_CHECKING:
    from trioshard._wire import Wire

READY = {"op": 0, "s": 1, "t": "READY", "d": {"session_id": "s1", "resume_gateway_url": "ws://resume"}}
RECONNECT = {"op": 7, "d": None}
INVALID = {"op": 9, "d": False}


def envelope(payload: dict[str, Any]) -> Envelope:
    return scan(json.dumps(payload).encode())


class ScriptedTransport:
    """One end of a WebSocket whose writes stop at a gate until the test opens it.

    ``written`` lists what left, with the machine's phase *at the moment when the last byte left*.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.written: list[tuple[Opcode, Phase]] = []
        self.begun = 0
        self.cut = 0
        self.gate = trio.Event()
        self.gate.set()
        self.broken = False
        self.inbox_send, self._inbox = trio.open_memory_channel[list[bytes | str]](math.inf)

    def stall(self) -> None:
        self.gate = trio.Event()

    def proceed(self) -> None:
        self.gate.set()

    async def send(self, document: bytes) -> None:
        self.begun += 1
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.cut += 1
            raise
        if self.broken:
            raise ConnectionLost("broken by the test")
        self.written.append((Opcode(json.loads(document)["op"]), self._machine.phase))

    is_resting = True

    async def receive_batch(self) -> list[bytes | str]:
        return await self._inbox.receive()

    async def aclose(self, code: int, *, wait: bool = True) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def violations(self) -> list[tuple[Opcode, Phase]]:
        """Commands that left outside READY: each would be answered with 4003."""
        return [entry for entry in self.written if entry[0] is not Opcode.HEARTBEAT and entry[1] is not Phase.READY]


def ready_machine() -> Machine:
    """A machine that has identified and seen READY."""
    machine = Machine(session=None)
    machine.connected()
    machine.receive(envelope({"op": 10, "d": {"heartbeat_interval": 41250}}))
    machine.goes_out(Opcode.IDENTIFY)
    machine.receive(envelope(READY))
    assert machine.phase is Phase.READY
    return machine


async def write_presence(wire: Wire) -> bool:
    """Write a presence, as a sender would."""
    return await wire.write(Opcode.PRESENCE_UPDATE, lambda: b'{"op":3,"d":null}')
