"""The three races of the send path, each forced by hand.

Every test runs against our `Wire`, where it must find nothing, and against the two designs that other libraries use,
where it must find a payload outside READY. A race that the mutants survive would prove nothing about ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.runtime.scripted import (
    INVALID,
    RECONNECT,
    ScriptedTransport,
    envelope,
    ready_machine,
    write_presence,
)
from trioshard._wire import Wire, WriteStalled
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import Opcode

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioshard.protocol.codec import Envelope
    from trioshard.protocol.machine import Effect


class CheckThenWaitWire(Wire):
    """A copy of the sender that looks at the state first, and then stands in line (hikari, discord.js)."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if not self._machine.admit(opcode):
            return False
        data = document()
        if data is None:
            return False
        async with self._lock:
            await self._transport.send(data)
        return True

    async def receive(self, envelope: Envelope) -> Effect:
        return self._machine.receive(envelope)


class DoubleCheckWire(Wire):
    """A copy of the sender that looks twice, and has no lock around the second look and the write."""

    async def write(self, opcode: Opcode, document: Callable[[], bytes | None]) -> bool:
        if not self._machine.admit(opcode):
            return False
        await trio.lowlevel.checkpoint()
        if not self._machine.admit(opcode):
            return False
        data = document()
        if data is None:
            return False
        await self._transport.send(data)
        return True

    async def receive(self, envelope: Envelope) -> Effect:
        return self._machine.receive(envelope)


OURS = pytest.param(Wire, False, id="ours")
CHECK_THEN_WAIT = pytest.param(CheckThenWaitWire, True, id="check-then-wait")
DOUBLE_CHECK = pytest.param(DoubleCheckWire, True, id="double-check")


def build(kind: type[Wire]) -> tuple[Machine, ScriptedTransport, Wire]:
    machine = ready_machine()
    transport = ScriptedTransport(machine)
    return machine, transport, kind(transport, machine, write_timeout=10.0)


async def quiet_write(wire: Wire) -> None:
    """Write, and take an interrupted connection as any task of the connection would: the connection is over."""
    try:
        await write_presence(wire)
    except WriteStalled:
        pass


@pytest.mark.parametrize(("kind", "leaks"), [OURS, CHECK_THEN_WAIT])
@pytest.mark.parametrize("verdict", [RECONNECT, INVALID], ids=["op7", "op9"])
async def test_a_gate_open_at_the_first_look_and_closed_before_the_write(
    kind: type[Wire], leaks: bool, verdict: dict[str, object]
) -> None:
    _, transport, wire = build(kind)
    transport.stall()
    async with trio.open_nursery() as nursery:
        # A heartbeat is on its way and holds the line; a sender has looked, and stands behind it.
        nursery.start_soon(quiet_heartbeat, wire)
        await wait_all_tasks_blocked()
        nursery.start_soon(quiet_write, wire)
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.receive, envelope(verdict))
        await wait_all_tasks_blocked()
        transport.proceed()
    assert bool(transport.violations) is leaks


async def quiet_heartbeat(wire: Wire) -> None:
    try:
        await wire.write(Opcode.HEARTBEAT, lambda: b'{"op":1,"d":1}')
    except WriteStalled:
        pass


@pytest.mark.parametrize(("kind", "leaks"), [OURS, CHECK_THEN_WAIT, DOUBLE_CHECK])
@pytest.mark.parametrize("verdict", [RECONNECT, INVALID], ids=["op7", "op9"])
async def test_b_check_passed_and_the_state_changed_before_the_bytes_left(
    kind: type[Wire], leaks: bool, verdict: dict[str, object]
) -> None:
    _, transport, wire = build(kind)
    transport.stall()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quiet_write, wire)
        await wait_all_tasks_blocked()
        assert transport.begun == 1, "the check has passed, and no byte has left"
        nursery.start_soon(wire.receive, envelope(verdict))
        await wait_all_tasks_blocked()
        transport.proceed()
    assert bool(transport.violations) is leaks
    if not leaks:
        assert transport.cut == 1, "the write in flight was interrupted, not waited for"


@pytest.mark.parametrize(("kind", "leaks"), [OURS, CHECK_THEN_WAIT, DOUBLE_CHECK])
async def test_c_several_senders_at_once_and_the_state_changes_between_them(kind: type[Wire], leaks: bool) -> None:
    _, transport, wire = build(kind)
    async with trio.open_nursery() as nursery:
        assert await write_presence(wire)
        transport.stall()
        for _ in range(5):
            nursery.start_soon(quiet_write, wire)
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.receive, envelope(INVALID))
        await wait_all_tasks_blocked()
        transport.proceed()
    assert bool(transport.violations) is leaks
    if not leaks:
        assert len(transport.written) == 1, "what was written before the change, and nothing after"
