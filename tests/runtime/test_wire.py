"""The lock: what it holds off, and that nobody waits long for it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.runtime.scripted import READY, RECONNECT, ScriptedTransport, envelope, ready_machine, write_presence
from trioshard._wire import Wire, WriteStalled
from trioshard.errors import ConnectionLost
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import Phase


def build(write_timeout: float = 10.0) -> tuple[Machine, ScriptedTransport, Wire]:
    machine = ready_machine()
    transport = ScriptedTransport(machine)
    return machine, transport, Wire(transport, machine, write_timeout=write_timeout)


async def test_a_payload_that_is_not_admitted_is_refused_and_nothing_is_written() -> None:
    _, transport, wire = build()
    assert not await wire.write(Opcode.IDENTIFY, lambda: b"{}")
    assert transport.begun == 0


async def test_a_payload_that_is_not_wanted_any_more_is_not_written() -> None:
    _, transport, wire = build()
    assert not await wire.write(Opcode.PRESENCE_UPDATE, lambda: None)
    assert transport.begun == 0


async def test_the_document_is_made_only_when_it_is_certain_to_go() -> None:
    machine, _, wire = build()
    machine.close()
    made: list[int] = []

    def document() -> bytes:
        made.append(1)
        return b"{}"

    assert not await wire.write(Opcode.PRESENCE_UPDATE, document)
    assert not made


async def test_the_handshake_moves_the_phase_under_the_same_hold_of_the_lock() -> None:
    machine = Machine(session=None)
    machine.connected()
    machine.receive(envelope({"op": 10, "d": {"heartbeat_interval": 41250}}))
    transport = ScriptedTransport(machine)
    wire = Wire(transport, machine, write_timeout=10.0)
    assert await wire.write(Opcode.IDENTIFY, lambda: b'{"op":2}')
    assert machine.phase is Phase.IDENTIFYING
    assert not await wire.write(Opcode.IDENTIFY, lambda: b'{"op":2}'), "never retried in place"
    assert not await wire.write(Opcode.RESUME, lambda: b'{"op":6}')


async def test_a_write_that_does_not_get_through_is_given_up_at_its_deadline(autojump_clock: trio.abc.Clock) -> None:
    _, transport, wire = build(write_timeout=7.0)
    transport.stall()
    begun = trio.current_time()
    with pytest.raises(WriteStalled, match="within 7 s"):
        await write_presence(wire)
    assert trio.current_time() - begun == pytest.approx(7.0)


async def test_a_heartbeat_waits_at_most_for_the_one_write_that_holds_the_lock() -> None:
    _, transport, wire = build()
    transport.stall()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_presence, wire)
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.write, Opcode.HEARTBEAT, lambda: b'{"op":1,"d":1}')
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(write_presence, wire)
        await wait_all_tasks_blocked()
        transport.proceed()
    assert [opcode for opcode, _ in transport.written][1] is Opcode.HEARTBEAT


async def test_whoever_gives_the_connection_up_is_not_stuck_behind_a_stalled_write(
    autojump_clock: trio.abc.Clock,
) -> None:
    machine, transport, wire = build(write_timeout=1000.0)
    transport.stall()

    async def interrupted() -> None:
        with pytest.raises(WriteStalled, match="interrupted"):
            await write_presence(wire)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupted)
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            await wire.receive(envelope(RECONNECT))
    assert machine.phase is Phase.CLOSING
    assert transport.cut == 1


async def test_leaving_lets_the_write_in_flight_finish() -> None:
    machine, transport, wire = build()
    transport.stall()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_presence, wire)
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.leave)
        await wait_all_tasks_blocked()
        assert machine.phase is Phase.READY
        transport.proceed()
    assert machine.phase is Phase.CLOSING
    assert len(transport.written) == 1
    assert transport.cut == 0


async def test_closing_refuses_everything_from_then_on() -> None:
    _, transport, wire = build()
    await wire.close()
    assert not await write_presence(wire)
    assert not await wire.write(Opcode.HEARTBEAT, lambda: b'{"op":1,"d":1}')
    assert transport.written == []


async def test_a_handshake_whose_write_broke_is_not_tried_again_in_place() -> None:
    machine = Machine(session=None)
    machine.connected()
    machine.receive(envelope({"op": 10, "d": {"heartbeat_interval": 41250}}))
    transport = ScriptedTransport(machine)
    transport.broken = True
    wire = Wire(transport, machine, write_timeout=10.0)
    with pytest.raises(ConnectionLost):
        await wire.write(Opcode.IDENTIFY, lambda: b'{"op":2}')
    transport.broken = False
    assert not await wire.write(Opcode.IDENTIFY, lambda: b'{"op":2}')
    assert transport.written == []


async def test_an_answer_that_is_read_before_the_write_returns_is_understood() -> None:
    """A stream may give control away after its last byte has left; the gateway may be quicker than that."""
    machine = Machine(session=None)
    machine.connected()
    machine.receive(envelope({"op": 10, "d": {"heartbeat_interval": 41250}}))
    transport = ScriptedTransport(machine)
    wire = Wire(transport, machine, write_timeout=10.0)
    transport.stall()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.write, Opcode.IDENTIFY, lambda: b'{"op":2}')
        await wait_all_tasks_blocked()
        nursery.start_soon(wire.receive, envelope(READY))
        await wait_all_tasks_blocked()
        transport.proceed()
    assert machine.phase is Phase.READY
