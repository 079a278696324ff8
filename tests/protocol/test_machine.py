"""One connection as a state machine: what arrives, what it asks for, and what it can never do."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard.errors import GatewayProtocolError
from trioshard.protocol.codec import Envelope, scan
from trioshard.protocol.machine import (
    Acked,
    BeatNow,
    Deliver,
    Greet,
    Ignored,
    Machine,
    Open,
    Reconnect,
    SessionInvalidated,
)
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.phases import HANDSHAKES, USER_COMMANDS, Phase
from trioshard.protocol.session import Session

from .samples import ARRIVALS, READY_DATA, SESSION, dispatch, hello, machine_in, payload, ready

TALKING = [Phase.GREETED, Phase.IDENTIFYING, Phase.RESUMING, Phase.READY]
OPEN = [Phase.AWAITING_HELLO, *TALKING]


# Hello and heartbeats


def test_hello_greets_and_starts_the_handshake():
    machine = machine_in(Phase.AWAITING_HELLO)
    assert machine.receive(hello(41250)) == Greet(41.25, first=True)
    assert machine.phase is Phase.GREETED


@pytest.mark.parametrize("phase", TALKING)
def test_a_second_hello_changes_the_interval_and_nothing_else(phase):
    machine = machine_in(phase)
    assert machine.receive(hello(10000)) == Greet(10.0, first=False)
    assert machine.phase is phase


def test_a_tiny_interval_is_raised_to_a_second():
    assert machine_in(Phase.AWAITING_HELLO).receive(hello(1)) == Greet(1.0, first=True)


@pytest.mark.parametrize(
    "interval",
    [0, -1, -0.0, 3600001, 1e300, 10**400, None, True, "45000", [], {}],
    ids=lambda value: repr(value)[:12],
)
@pytest.mark.parametrize("phase", OPEN)
def test_an_absurd_interval_is_refused(phase, interval):
    machine = machine_in(phase)
    with pytest.raises(GatewayProtocolError, match="heartbeat_interval"):
        machine.receive(hello(interval))
    assert machine.phase is phase


@pytest.mark.parametrize("d", [None, [], "45000", 45000])
def test_a_hello_without_its_object_is_refused(d):
    machine = machine_in(Phase.AWAITING_HELLO)
    with pytest.raises(GatewayProtocolError):
        machine.receive(payload(10, d))
    assert machine.phase is Phase.AWAITING_HELLO


@pytest.mark.parametrize("phase", TALKING)
def test_heartbeat_requests_and_acks(phase):
    machine = machine_in(phase)
    assert machine.receive(payload(1)) == BeatNow()
    assert machine.receive(scan(b'{"op":11}')) == Acked()
    assert machine.phase is phase


# Leaving


@pytest.mark.parametrize("phase", OPEN)
def test_op_7_ends_the_connection_at_any_point(phase):
    machine = machine_in(phase)
    assert machine.receive(payload(7)) == Reconnect()
    assert machine.phase is Phase.CLOSING


@pytest.mark.parametrize(
    ("d", "resumable"),
    [
        (b"true", True),
        (b" true ", True),
        (b"false", False),
        (b"null", False),
        (b"1", False),
        (b'"true"', False),
        (b"[true]", False),
        (b"{}", False),
    ],
)
@pytest.mark.parametrize("phase", TALKING)
def test_only_a_literal_true_makes_op_9_resumable(phase, d, resumable):
    machine = machine_in(phase)
    assert machine.receive(scan(b'{"op":9,"d":%s}' % d)) == SessionInvalidated(resumable)
    assert machine.phase is Phase.CLOSING


def test_op_9_without_data_is_not_resumable():
    assert machine_in(Phase.READY).receive(scan(b'{"op":9}')) == SessionInvalidated(resumable=False)


@pytest.mark.parametrize("arrival", ARRIVALS.values(), ids=lambda arrival: f"op{arrival.op}-{arrival.t}")
@pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.CLOSED])
def test_after_the_end_nothing_counts_any_more(phase, arrival):
    machine = machine_in(phase)
    before = machine.current_session()
    effect = machine.receive(arrival)
    # A verdict on the session still counts when it is read behind a write that broke.
    assert isinstance(effect, SessionInvalidated if arrival.op == 9 and phase is Phase.CLOSING else Ignored)
    assert (machine.phase, machine.current_session()) == (phase, before)


def test_a_closed_connection_cannot_be_opened_again():
    machine = machine_in(Phase.CLOSED)
    machine.connected()
    assert machine.phase is Phase.CLOSED
    machine.close()
    assert machine.phase is Phase.CLOSED


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.CLOSING, Phase.CLOSED)])
@pytest.mark.parametrize("leave", [Machine.close, Machine.closed, lambda machine: machine.receive(payload(7))])
def test_how_far_it_came_is_remembered(phase, leave):
    machine = machine_in(phase)
    assert machine.reached is phase
    leave(machine)
    machine.closed()
    assert (machine.phase, machine.reached) == (Phase.CLOSED, phase)


# READY and RESUMED


def test_ready_makes_a_session():
    machine = Machine(session=None, shard=(3, 4), compress="zstd-stream")
    assert machine.handshake is Opcode.IDENTIFY
    assert machine.current_session() is None
    machine.connected()
    machine.receive(hello())
    machine.goes_out(Opcode.IDENTIFY)
    session = Session(
        id="fresh", sequence=1, resume_url="wss://eu.example/", shard=(3, 4), encoding="json", compress="zstd-stream"
    )
    assert machine.receive(ready()) == Open(session, resumed=False)
    assert (machine.phase, machine.session, machine.sequence) == (Phase.READY, session, 1)


def test_resumed_continues_the_session_with_the_last_sequence():
    machine = machine_in(Phase.RESUMING, SESSION)
    assert machine.handshake is Opcode.RESUME
    assert machine.sequence == 40
    assert machine.receive(dispatch("MESSAGE_CREATE", 41)) == Deliver()
    assert machine.receive(dispatch("RESUMED", 42)) == Open(SESSION.at(42), resumed=True)
    assert machine.current_session() == SESSION.at(42)


def test_resumed_without_a_sequence_keeps_the_last_one():
    machine = machine_in(Phase.RESUMING, SESSION)
    assert machine.receive(scan(b'{"op":0,"t":"RESUMED"}')) == Open(SESSION, resumed=True)


@pytest.mark.parametrize("phase", [Phase.GREETED, Phase.RESUMING, Phase.READY])
def test_ready_is_ignored_where_no_identify_waits_for_it(phase):
    machine = machine_in(phase, SESSION)
    before = machine.current_session()
    assert isinstance(machine.receive(ready(s=99)), Ignored)
    assert (machine.phase, machine.current_session()) == (phase, before)


def without(field: str) -> dict[str, object]:
    return {key: value for key, value in READY_DATA.items() if key != field}


@pytest.mark.parametrize(
    "d",
    [
        None,
        [],
        "READY",
        without("session_id"),
        without("resume_gateway_url"),
        READY_DATA | {"session_id": None},
        READY_DATA | {"session_id": 5},
        READY_DATA | {"resume_gateway_url": None},
    ],
)
def test_a_ready_that_cannot_be_resumed_is_refused(d):
    machine = machine_in(Phase.IDENTIFYING)
    with pytest.raises(GatewayProtocolError, match="READY"):
        machine.receive(dispatch("READY", 1, d))
    assert (machine.phase, machine.session, machine.sequence) == (Phase.IDENTIFYING, None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"session_id":"\xff","resume_gateway_url":"wss://b"}',
        b'{"session_id":"a","resume_gateway_url":"wss://b","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["not UTF-8", "too deep"],
)
def test_a_ready_that_cannot_be_decoded_is_refused(raw):
    machine = machine_in(Phase.IDENTIFYING)
    with pytest.raises(GatewayProtocolError):
        machine.receive(Envelope(op=0, d=msgspec.Raw(raw), s=1, t="READY"))


def test_a_ready_needs_no_more_than_session_and_url():
    machine = machine_in(Phase.IDENTIFYING)
    effect = machine.receive(dispatch("READY", None, {"session_id": "a", "resume_gateway_url": "wss://b"}))
    assert isinstance(effect, Open)
    assert effect.session.sequence == 0
    assert machine.current_session() == effect.session


# Sequences


def test_the_sequence_follows_the_dispatches():
    machine = machine_in(Phase.READY)
    for sequence in (2, 3, 7):
        assert machine.receive(dispatch("TYPING_START", sequence)) == Deliver()
        assert machine.sequence == sequence
        assert machine.current_session().sequence == sequence


@pytest.mark.parametrize("late", [None, 0, 5, 99, 100])
@pytest.mark.parametrize("phase", [Phase.RESUMING, Phase.READY])
def test_the_sequence_never_goes_backwards(phase, late):
    machine = machine_in(phase, SESSION.at(50))
    machine.receive(dispatch("TYPING_START", 100))
    assert machine.receive(dispatch("TYPING_START", late)) == Deliver()
    assert machine.sequence == 100


@pytest.mark.parametrize("op", [1, 7, 9, 10, 11, 99])
def test_only_dispatches_carry_a_sequence(op):
    machine = machine_in(Phase.READY)
    before = machine.sequence
    machine.receive(payload(op, {"heartbeat_interval": 45000}, s=1000))
    assert machine.sequence == before


def test_what_is_not_delivered_is_not_counted():
    machine = machine_in(Phase.READY)
    machine.receive(payload(7))
    machine.receive(dispatch("MESSAGE_CREATE", 77))
    assert machine.current_session().sequence == 1


@pytest.mark.parametrize("op", [2, 3, 4, 5, 6, 8, 12, 31, 43, -1, 10**30])
@pytest.mark.parametrize("phase", OPEN)
def test_an_opcode_that_should_not_arrive_is_ignored(phase, op):
    machine = machine_in(phase)
    effect = machine.receive(payload(op))
    assert isinstance(effect, Ignored)
    assert str(op) in effect.why
    assert machine.phase is phase


# What holds whatever happens

RANK = {
    Phase.CONNECTING: 0,
    Phase.AWAITING_HELLO: 1,
    Phase.GREETED: 2,
    Phase.IDENTIFYING: 3,
    Phase.RESUMING: 3,
    Phase.READY: 4,
    Phase.CLOSING: 5,
    Phase.CLOSED: 6,
}

SCRAPS = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just(READY_DATA)
PAYLOADS = st.builds(
    payload,
    st.sampled_from([0, 0, 1, 7, 9, 10, 11, 12, 43]),
    st.one_of(SCRAPS, st.fixed_dictionaries({"heartbeat_interval": st.integers(-10, 10**7) | SCRAPS})),
    st.none() | st.integers(0, 1000),
    st.sampled_from(["READY", "RESUMED", "MESSAGE_CREATE", None]),
)
STEPS = st.lists(
    st.one_of(
        st.sampled_from([*ARRIVALS.values(), *ARRIVALS.values(), *Opcode, "handshake", "handshake", "close", "closed"]),
        PAYLOADS,
    ),
    max_size=40,
)


@given(session=st.sampled_from([None, SESSION]), steps=STEPS)
def test_a_connection_only_moves_forward(session, steps):
    machine = Machine(session=session)
    machine.connected()
    handshakes = 0
    highest = -math.inf if session is None else session.sequence
    gate_open = False
    for step in steps:
        before = machine.phase
        if isinstance(step, Envelope):
            moves = machine.moves(step)
            try:
                effect = machine.receive(step)
            except GatewayProtocolError:
                assert machine.phase is before
            else:
                assert moves is (None if machine.phase is before else machine.phase)
                gate_open = gate_open or isinstance(effect, Open)
        elif step in ("close", "closed"):
            getattr(machine, step)()
        else:
            opcode = machine.handshake if step == "handshake" else step
            if opcode in HANDSHAKES and opcode is not machine.handshake:
                continue  # the owner of a machine shakes hands as it says
            admitted = machine.admit(opcode)
            if opcode in USER_COMMANDS:
                assert admitted is (gate_open and machine.phase is Phase.READY)
            if admitted:
                machine.goes_out(opcode)
                handshakes += opcode in HANDSHAKES
        assert RANK[machine.phase] >= RANK[before]
        assert RANK[machine.phase] != RANK[before] or machine.phase is before
        if machine.sequence is not None:
            assert machine.sequence >= highest
            highest = machine.sequence
    assert handshakes <= 1
    assert not gate_open or handshakes == 1
