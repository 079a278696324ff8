"""Every phase with every kind of payload, in both directions, against tables written out by hand.

``-`` is illegal (or makes no sense), ``=`` leaves the phase as it is, a name is the phase that follows.
"""

from __future__ import annotations

import pytest

from trioshard.protocol.machine import Ignored
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import HANDSHAKES, RECEIVE, SEND, USER_COMMANDS, Inbound, Phase

from .samples import ARRIVALS, SESSION, machine_in

MAY_SEND = """
                           CONNECTING AWAITING_HELLO GREETED    IDENTIFYING RESUMING READY CLOSING CLOSED
DISPATCH                   -          -              -          -           -        -     -       -
HEARTBEAT                  -          -              =          =           =        =     -       -
IDENTIFY                   -          -              IDENTIFYING -          -        -     -       -
PRESENCE_UPDATE            -          -              -          -           -        =     -       -
VOICE_STATE_UPDATE         -          -              -          -           -        =     -       -
RESUME                     -          -              RESUMING   -           -        -     -       -
RECONNECT                  -          -              -          -           -        -     -       -
REQUEST_GUILD_MEMBERS      -          -              -          -           -        =     -       -
INVALID_SESSION            -          -              -          -           -        -     -       -
HELLO                      -          -              -          -           -        -     -       -
HEARTBEAT_ACK              -          -              -          -           -        -     -       -
REQUEST_SOUNDBOARD_SOUNDS  -          -              -          -           -        =     -       -
REQUEST_CHANNEL_INFO       -          -              -          -           -        =     -       -
"""

MAY_ARRIVE = """
                   CONNECTING AWAITING_HELLO GREETED IDENTIFYING RESUMING READY   CLOSING CLOSED
HELLO              -          GREETED        =       =           =        =       -       -
HEARTBEAT_REQUEST  -          -              =       =           =        =       -       -
HEARTBEAT_ACK      -          -              =       =           =        =       -       -
RECONNECT          -          CLOSING        CLOSING CLOSING     CLOSING  CLOSING -       -
INVALID_SESSION    -          -              CLOSING CLOSING     CLOSING  CLOSING =       -
READY              -          -              -       READY       -        -       -       -
RESUMED            -          -              -       -           READY    -       -       -
DISPATCH           -          -              -       -           =        =       -       -
UNKNOWN            -          =              =       =           =        =       -       -
"""


def cells(table: str) -> dict[tuple[Phase, str], Phase | None]:
    """Read a table: (phase, name of the row) to the phase that follows, or None where it is illegal."""
    header, *rows = (line.split() for line in table.strip().splitlines())
    columns = [Phase[name] for name in header]
    read = {}
    for name, *values in rows:
        for phase, value in zip(columns, values, strict=True):
            read[phase, name] = None if value == "-" else phase if value == "=" else Phase[value]
    return read


SENDING = cells(MAY_SEND)
ARRIVING = cells(MAY_ARRIVE)


@pytest.mark.parametrize(("table", "kinds"), [(SENDING, Opcode), (ARRIVING, Inbound)])
def test_the_tables_here_have_a_cell_for_everything(table, kinds):
    assert set(table) == {(phase, kind.name) for phase in Phase for kind in kinds}


@pytest.mark.parametrize("opcode", Opcode)
@pytest.mark.parametrize("phase", Phase)
def test_what_may_be_sent(phase, opcode):
    expected = SENDING[phase, opcode.name]
    assert SEND.get((phase, opcode)) is expected
    # Of the two handshakes each machine has one: which, its session decides.
    machine = machine_in(phase, SESSION if opcode is Opcode.RESUME and phase is Phase.GREETED else None)
    assert machine.admit(opcode) is (expected is not None)
    if expected is not None:
        machine.goes_out(opcode)
        assert machine.phase is expected


@pytest.mark.parametrize("inbound", Inbound)
@pytest.mark.parametrize("phase", Phase)
def test_what_may_arrive(phase, inbound):
    expected = ARRIVING[phase, inbound.name]
    assert RECEIVE.get((phase, inbound)) is expected
    machine = machine_in(phase)
    arrival = ARRIVALS[inbound]
    assert machine.moves(arrival) is (None if expected is phase else expected)
    sequence = machine.sequence
    effect = machine.receive(arrival)
    assert machine.phase is (expected or phase)
    if expected is None:
        assert isinstance(effect, Ignored)
        assert machine.sequence == sequence


def test_nothing_is_in_the_tables_but_these_cells():
    assert set(SEND) <= {(phase, Opcode[name]) for phase, name in SENDING}
    assert set(RECEIVE) <= {(phase, Inbound[name]) for phase, name in ARRIVING}


def test_a_payload_that_is_not_admitted_cannot_be_entered_as_written():
    machine = machine_in(Phase.IDENTIFYING)
    with pytest.raises(KeyError):
        machine.goes_out(Opcode.IDENTIFY)


def test_users_send_commands_and_nothing_else():
    assert {opcode.value for opcode in USER_COMMANDS} == {3, 4, 8, 31, 43}
    assert {opcode.value for opcode in HANDSHAKES} == {2, 6}
