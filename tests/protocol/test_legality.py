"""What is legal when, and what follows a close: tables written down by hand from Discord's pages.

Nothing in these tables is derived from the code. The client's machine and the gateway's judge are both held to
them, cell by cell and on random walks. A cell that is missing fails, and so does a row or a word that nothing uses.

Sources: *Gateway*, connection lifecycle; *Gateway Events*, payload structure, Hello, Reconnect, Invalid Session;
*Opcodes and Status Codes*. Where these are silent, the choice is the defensive one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard import errors
from trioshard.errors import GatewayProtocolError
from trioshard.protocol import machine as effects
from trioshard.protocol.codec import Envelope, scan
from trioshard.protocol.machine import Machine
from trioshard.protocol.opcodes import Opcode
from trioshard.protocol.pacing import Backoff
from trioshard.protocol.phases import Phase
from trioshard.protocol.recovery import Ending, Outcome, Recovery
from trioshard.protocol.session import Session
from trioshard.testing import _rules as gateway

from .samples import READY_DATA, SESSION, machine_in

# --- the payloads ---

PRESENCE = {"since": None, "activities": [], "status": "online", "afk": False}
IDENTIFY = {"token": "t", "intents": 0, "properties": {"os": "o", "browser": "b", "device": "d"}, "shard": [0, 1]}

SENT: dict[str, tuple[int, object, list[object]]] = {
    "HEARTBEAT": (1, 40, ["40", {}, 1.5, True]),
    "IDENTIFY": (2, IDENTIFY, [None, {}, IDENTIFY | {"token": 5}, IDENTIFY | {"shard": 0}]),
    "PRESENCE_UPDATE": (3, PRESENCE, [None, {}, PRESENCE | {"afk": 0}, [PRESENCE]]),
    "VOICE_STATE_UPDATE": (
        4,
        {"guild_id": "7", "channel_id": None, "self_mute": False, "self_deaf": False},
        [None, {}, {"guild_id": "7"}],
    ),
    "RESUME": (6, {"token": "t", "session_id": "5e55", "seq": 40}, [None, {}, {"token": "t", "session_id": "5e55"}]),
    "REQUEST_GUILD_MEMBERS": (8, {"guild_id": "7", "query": "", "limit": 0}, [None, {}, {"guild_id": "7"}]),
    "REQUEST_SOUNDBOARD_SOUNDS": (31, {"guild_ids": ["7"]}, [None, {}, {"guild_ids": "7"}]),
    "REQUEST_CHANNEL_INFO": (43, {"guild_id": "7", "fields": ["status"]}, [None, {}, {"guild_id": "7"}]),
    "DISPATCH": (0, {}, []),
    "RECONNECT": (7, None, []),
    "INVALID_SESSION": (9, False, []),
    "HELLO": (10, {"heartbeat_interval": 45000}, []),
    "HEARTBEAT_ACK": (11, None, []),
    **{f"op {op}": (op, {}, []) for op in (-1, 5, *range(12, 31), *range(32, 43), 44, 99, 10**6)},
}
"""What a client could write: opcode, good data, and data that are wrong for it."""

# --- what a client may send ---

MAY_SEND = """
                           CONNECTING AWAITING_HELLO GREETED     IDENTIFYING RESUMING READY CLOSING CLOSED
HEARTBEAT                  no         4003           yes         yes         yes      yes   no      no
IDENTIFY                   no         4003           IDENTIFYING 4005        4005     4005  no      no
RESUME                     no         4003           RESUMING    4005        4005     4005  no      no
PRESENCE_UPDATE            no         4003           4003        4003        4003     yes   no      no
VOICE_STATE_UPDATE         no         4003           4003        4003        4003     yes   no      no
REQUEST_GUILD_MEMBERS      no         4003           4003        4003        4003     yes   no      no
REQUEST_SOUNDBOARD_SOUNDS  no         4003           4003        4003        4003     yes   no      no
REQUEST_CHANNEL_INFO       no         4003           4003        4003        4003     yes   no      no
DISPATCH                   no         4001           4001        4001        4001     4001  no      no
RECONNECT                  no         4001           4001        4001        4001     4001  no      no
INVALID_SESSION            no         4001           4001        4001        4001     4001  no      no
HELLO                      no         4001           4001        4001        4001     4001  no      no
HEARTBEAT_ACK              no         4001           4001        4001        4001     4001  no      no
op                         no         4001           4001        4001        4001     4001  no      no
"""
"""``yes`` stays in the phase, a name is the phase that follows, a number is what Discord closes with, and ``no`` is
where nobody is there to answer. Which of Identify and Resume a client has, its session decides."""

# --- what may arrive ---

NOT_HELLO = [None, {}, [], "45000", *({"heartbeat_interval": value} for value in (None, 0, -1, "1", True, 3600001))]
NOT_READY = [None, [], "READY", {}, {"session_id": "a"}, {"resume_gateway_url": "wss://b"}]
NOT_READY += [READY_DATA | {"session_id": 5}, READY_DATA | {"resume_gateway_url": None}]
SCRAPS: list[object] = [None, True, False, 0, 45000, "text", [], {"some": "thing"}]

ARRIVING: dict[str, list[tuple[int, str | None, object]]] = {
    "hello": [(10, None, {"heartbeat_interval": 45000, "_trace": []}), (10, None, {"heartbeat_interval": 45000.0})],
    "bad_hello": [(10, None, data) for data in NOT_HELLO],
    "beat_now": [(1, None, data) for data in SCRAPS],
    "ack": [(11, None, data) for data in SCRAPS],
    "reconnect": [(7, None, data) for data in SCRAPS],
    "op9_true": [(9, None, True)],
    "op9_other": [(9, None, data) for data in [None, False, 1, "true", [True], {}]],
    "ready": [
        (0, "READY", READY_DATA),
        (0, "READY", {"session_id": "fresh", "resume_gateway_url": "wss://eu.example/"}),
    ],
    "bad_ready": [(0, "READY", data) for data in NOT_READY],
    "resumed": [(0, "RESUMED", data) for data in SCRAPS],
    "event": [(0, name, data) for name in ("MESSAGE_CREATE", "NOBODY_KNOWS", "ready", "", None) for data in SCRAPS],
    "send_only": [(op, None, data) for op in (2, 3, 4, 6, 8, 31, 43) for data in SCRAPS],
    "unknown": [(op, None, data) for op in (-1, 5, *range(12, 31), *range(32, 43), 44, 10**6) for data in SCRAPS],
}
"""What can come, with all the data that it may come with: opcode, name, data."""

MAY_ARRIVE = """
           CONNECTING AWAITING_HELLO GREETED IDENTIFYING RESUMING READY CLOSING CLOSED
hello      -          greet          again   again       again    again -       -
bad_hello  -          bad            bad     bad         bad      bad   -       -
beat_now   -          -              beat    beat        beat     beat  -       -
ack        -          -              ack     ack         ack      ack   -       -
reconnect  -          leave          leave   leave       leave    leave -       -
op9_true   -          -              back    back        back     back  back    -
op9_other  -          -              gone    gone        gone     gone  gone    -
ready      -          -              -       begin       -        -     -       -
bad_ready  -          -              -       bad         -        -     -       -
resumed    -          -              -       -           go_on    -     -       -
event      -          -              -       -           event    event -       -
send_only  -          -              -       -           -        -     -       -
unknown    -          -              -       -           -        -     -       -
"""
"""What comes before its time changes nothing, and the sequence does not count it: only what is handed on is had."""


@dataclass(frozen=True)
class Consequence:
    """What one word of the table means."""

    effect: object
    """An effect, whole or only its kind; None where the data cannot be right."""
    phase: Phase | None = None
    """The next phase; None: as before."""
    counts: bool = False
    """Whether its sequence becomes the last one received, if it is higher."""


WORDS = {
    "-": Consequence(effects.Ignored),
    "bad": Consequence(None),
    "greet": Consequence(effects.Greet(45.0, first=True), Phase.GREETED),
    "again": Consequence(effects.Greet(45.0, first=False)),
    "beat": Consequence(effects.BeatNow()),
    "ack": Consequence(effects.Acked()),
    "leave": Consequence(effects.Reconnect(), Phase.CLOSING),
    "back": Consequence(effects.SessionInvalidated(resumable=True), Phase.CLOSING),
    "gone": Consequence(effects.SessionInvalidated(resumable=False), Phase.CLOSING),
    "event": Consequence(effects.Deliver(), counts=True),
    "begin": Consequence(effects.Open, Phase.READY, counts=True),
    "go_on": Consequence(effects.Open, Phase.READY, counts=True),
}


def read(table: str) -> dict[tuple[str, str], str]:
    """(column, row) to the word that stands there."""
    header, *rows = (line.split() for line in table.strip().splitlines())
    cells = {}
    for name, *values in rows:
        for column, value in zip(header, values, strict=True):
            assert (column, name) not in cells
            cells[column, name] = value
    return cells


SENDING, RECEIVING = read(MAY_SEND), read(MAY_ARRIVE)


def row(name: str) -> str:
    return name.split()[0]  # all unknown opcodes share one


def test_the_tables_have_a_cell_for_everything_and_no_more():
    phases = {phase.name for phase in Phase}
    assert set(SENDING) == {(phase, row(name)) for phase in phases for name in SENT}
    assert set(RECEIVING) == {(phase, name) for phase in phases for name in ARRIVING}
    assert set(RECEIVING.values()) == set(WORDS)
    assert set(SENDING.values()) == {"no", "yes", "4001", "4003", "4005", "IDENTIFYING", "RESUMING"}
    every_opcode = {*range(-1, 45)}
    assert every_opcode <= {op for op, _, _ in SENT.values()}
    assert every_opcode <= {op for variants in ARRIVING.values() for op, _, _ in variants}
    assert {opcode.value for opcode in Opcode} <= every_opcode
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        name: op for name, (op, _, _) in SENT.items() if row(name) != "op"
    }


# --- the client, cell by cell ---


def envelope(op: int, name: str | None, data: object, sequence: int | None = None) -> Envelope:
    return scan(json.dumps({"op": op, "d": data, "s": sequence, "t": name}))


def may_send(phase: Phase, name: str, *, session: bool) -> Phase | None:
    """The phase that follows, by the table; None where it is illegal."""
    word = SENDING[phase.name, row(name)]
    if word in ("IDENTIFYING", "RESUMING"):
        return Phase[word] if session is (word == "RESUMING") else None
    return phase if word == "yes" else None


def opcode(name: str) -> Opcode | int:
    number = SENT[name][0]
    return Opcode(number) if number in set(Opcode) else number


HELD = [None, SESSION]
each_session = pytest.mark.parametrize("session", HELD, ids=["no session", "session"])
each_phase = pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)


@each_session
@each_phase
def test_what_the_machine_lets_out(phase, session):
    for name in SENT:
        machine = machine_in(phase, None if phase is Phase.IDENTIFYING else session)
        # Past the handshake a machine has a session, whatever it began with.
        following = may_send(phase, name, session=machine.session is not None)
        before = machine.current_session()
        assert machine.admit(opcode(name)) is (following is not None), name
        assert machine.phase is phase, "asking changes nothing"
        if following is not None:
            machine.goes_out(opcode(name))
            assert machine.phase is following, name
        assert machine.current_session() == before


@dataclass
class Model:
    """What the tables say of one connection."""

    phase: Phase
    session: Session | None
    sequence: int | None

    def arrives(self, name: str, sequence: int | None) -> Consequence:
        consequence = WORDS[RECEIVING[self.phase.name, name]]
        if consequence.counts and sequence is not None and (self.sequence is None or sequence > self.sequence):
            self.sequence = sequence
        word = RECEIVING[self.phase.name, name]
        if word == "begin":
            self.session = Session(id="fresh", sequence=self.sequence or 0, resume_url="wss://eu.example/")
        elif word == "go_on":
            assert self.session is not None
            self.session = replace_sequence(self.session, self.sequence or 0)
        self.phase = consequence.phase or self.phase
        return consequence

    def agrees_with(self, machine: Machine) -> None:
        assert (machine.phase, machine.sequence) == (self.phase, self.sequence)
        expected = self.session
        if expected is not None and self.sequence is not None:
            expected = replace_sequence(expected, self.sequence)
        assert machine.current_session() == expected


def replace_sequence(session: Session, sequence: int) -> Session:
    return Session(
        id=session.id, sequence=sequence, resume_url=session.resume_url, shard=session.shard, compress=session.compress
    )


def feed(machine: Machine, model: Model, name: str, arrival: Envelope) -> None:
    """Let both take it, and compare."""
    before = model.phase
    consequence = model.arrives(name, arrival.s)
    moves = machine.moves(arrival)
    if consequence.effect is None:
        with pytest.raises(GatewayProtocolError):
            machine.receive(arrival)
    else:
        assert moves is (None if model.phase is before else model.phase), "whoever holds the lock was told otherwise"
        effect = machine.receive(arrival)
        if isinstance(consequence.effect, type):
            assert type(effect) is consequence.effect
        else:
            assert effect == consequence.effect
        if isinstance(effect, effects.Open):
            assert (effect.session, effect.resumed) == (model.session, name == "resumed")
    model.agrees_with(machine)


@each_session
@each_phase
@pytest.mark.parametrize("name", ARRIVING)
def test_what_the_machine_makes_of_what_arrives(phase, session, name):
    session = None if phase is Phase.IDENTIFYING else session
    for op, event, data in ARRIVING[name]:
        for sequence in (None, 0, 40, 41, 10**6):
            machine = machine_in(phase, session)
            model = Model(phase, machine.session, machine.sequence)
            feed(machine, model, name, envelope(op, event, data, sequence))


# --- the client, on random walks ---

ARRIVALS = st.sampled_from(list(ARRIVING)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(ARRIVING[name]), st.none() | st.integers(0, 100))
)
LIKELY = st.sampled_from([("hello", ARRIVING["hello"][0], None), ("ready", ARRIVING["ready"][0], 1)])
LIKELY |= st.sampled_from([("resumed", ARRIVING["resumed"][0], 60), ("event", ARRIVING["event"][0], 70)])
STEPS = st.one_of(
    ARRIVALS,
    LIKELY,
    LIKELY,
    st.sampled_from(list(SENT)),
    st.sampled_from(["IDENTIFY", "RESUME", "PRESENCE_UPDATE"]),
)


@given(session=st.sampled_from(HELD), steps=st.lists(STEPS | st.sampled_from(["close", "closed"]), max_size=40))
def test_the_machine_walks_as_the_tables_do(session, steps):
    machine = Machine(session=session)
    machine.connected()
    model = Model(Phase.AWAITING_HELLO, session, None if session is None else session.sequence)
    for step in steps:
        if isinstance(step, tuple):
            name, (op, event, data), sequence = step
            feed(machine, model, name, envelope(op, event, data, sequence))
        elif step in ("close", "closed"):
            getattr(machine, step)()
            model.phase = Phase.CLOSED if step == "closed" or model.phase is Phase.CLOSED else Phase.CLOSING
        else:
            following = may_send(model.phase, step, session=model.session is not None)
            assert machine.admit(opcode(step)) is (following is not None)
            if following is not None:
                machine.goes_out(opcode(step))
                model.phase = following
        model.agrees_with(machine)


# --- the gateway, from the other side ---

SAME_PHASE = {
    gateway.Phase.AWAITING_HELLO: "AWAITING_HELLO",
    gateway.Phase.HELLO_SENT: "GREETED",
    gateway.Phase.IDENTIFYING: "IDENTIFYING",
    gateway.Phase.RESUMING: "RESUMING",
    gateway.Phase.READY: "READY",
}
"""A gateway is in a phase from the moment the client may know; so what the client may send then, it takes."""

# Here the tables must differ. Discord recommends to leave after Invalid Session and does not ask for it: a
# handshake on the same socket is still taken, so a client that stays is no offender. Ours leaves: it is CLOSING, and
# sends nothing. What it had on its way before it read of the end is answered with 4003 too, and held against nobody.
INVALIDATED = """
                           before_ready after_ready
HEARTBEAT                  yes          yes
IDENTIFY                   IDENTIFYING  IDENTIFYING
RESUME                     RESUMING     RESUMING
PRESENCE_UPDATE            4003         crossed
VOICE_STATE_UPDATE         4003         crossed
REQUEST_GUILD_MEMBERS      4003         crossed
REQUEST_SOUNDBOARD_SOUNDS  4003         crossed
REQUEST_CHANNEL_INFO       4003         crossed
DISPATCH                   4001         4001
RECONNECT                  4001         4001
INVALID_SESSION            4001         4001
HELLO                      4001         4001
HEARTBEAT_ACK              4001         4001
op                         4001         4001
"""
AFTER_OP_9 = read(INVALIDATED)


def judge_in(where: str) -> gateway.Judge:
    """A judge that was led to a phase by what leads there. ``where`` is a column of one of the tables."""
    judge = gateway.Judge(grace=5.0)
    if where == "AWAITING_HELLO":
        return judge
    judge.hello_sent(0.0, 45.0)
    if where in ("IDENTIFYING", "READY", "after_ready"):
        assert isinstance(judge.receive(written("IDENTIFY"), 0.0), gateway.Accepted)
    elif where == "RESUMING":
        assert isinstance(judge.receive(written("RESUME"), 0.0), gateway.Accepted)
    if where in ("READY", "after_ready"):
        judge.session_started()
    if where in ("before_ready", "after_ready"):
        judge.session_invalidated()
        judge.session_invalidated()  # said twice, it is the same
    return judge


def written(name: str, data: object = ...) -> str:
    op, good, _ = SENT[name]
    return json.dumps({"op": op, "d": good if data is ... else data})


def verdict(judge: gateway.Judge, document: str | bytes) -> str:
    """What the judge says, in a word of the tables."""
    before = judge.phase
    judgement = judge.receive(document, 1.0)
    if isinstance(judgement, gateway.Accepted):
        return "yes" if judge.phase is before else judge.phase.name
    assert judge.phase is before
    if isinstance(judgement, gateway.Crossed):
        assert judgement.close == 4003
        return "crossed"
    return str(judgement.close)


GATEWAY_CELLS = {
    (SAME_PHASE[phase], name): SENDING[SAME_PHASE[phase], row(name)] for phase in SAME_PHASE for name in SENT
}
GATEWAY_CELLS |= {
    (where, name): AFTER_OP_9[where, row(name)] for where in ("before_ready", "after_ready") for name in SENT
}


def test_every_phase_of_the_gateway_is_accounted_for():
    assert {*SAME_PHASE, gateway.Phase.INVALIDATED, gateway.Phase.CLOSING} == set(gateway.Phase)
    assert set(AFTER_OP_9) == {(where, row(name)) for where in ("before_ready", "after_ready") for name in SENT}
    client_only = {phase.name for phase in Phase} - set(SAME_PHASE.values())
    assert client_only == {"CONNECTING", "CLOSING", "CLOSED"}
    assert {word for (phase, _), word in SENDING.items() if phase in client_only} == {"no"}


@pytest.mark.parametrize("where", [*SAME_PHASE.values(), "before_ready", "after_ready"])
def test_the_judge_says_what_the_tables_say(where):
    for name, (_, _, wrong) in SENT.items():
        expected = GATEWAY_CELLS[where, name]
        assert verdict(judge_in(where), written(name)) == expected, name
        for data in wrong:
            # Out of turn is out of turn, whatever the data; in its turn, they have to be right.
            legal = not expected.isdigit() and expected != "crossed"
            assert verdict(judge_in(where), written(name, data)) == ("4001" if legal else expected), (name, data)
    too_long = written("PRESENCE_UPDATE", PRESENCE | {"status": "x" * 4096})
    for document in ["", "{", "[]", '{"d":1}', '{"op":"1"}', b"\xff", too_long]:
        assert verdict(judge_in(where), document) == "4002"


@pytest.mark.parametrize("name", SENT)
def test_what_arrives_behind_a_close_is_held_against_nobody(name):
    for where in [*SAME_PHASE.values(), "before_ready", "after_ready"]:
        judge = judge_in(where)
        judge.close_sent()
        for document in (written(name), "{"):
            judgement = judge.receive(document, 1.0)
            assert isinstance(judgement, gateway.Crossed)
            assert judgement.close is None


# --- both, with a wire between them ---

MOVES = st.lists(
    st.one_of(
        st.sampled_from(["hello", "answer", "beat_now", "reconnect", "op9_true", "op9_other", "close"]),
        st.sampled_from(["hello", "answer", "down", "up", "down", "up", "shake hands"]),
        st.sampled_from(["down", "up", "PRESENCE_UPDATE", "HEARTBEAT", "REQUEST_GUILD_MEMBERS"]),
    ),
    max_size=60,
)


@given(session=st.sampled_from(HELD), steps=MOVES)
def test_what_the_machine_lets_out_the_judge_never_calls_an_offence(session, steps):
    """Payloads are under way for as long as it takes, in both directions."""
    machine, judge = Machine(session=session), gateway.Judge(grace=5.0)
    machine.connected()
    down: list[Envelope] = []
    up: list[str] = []
    for step in steps:
        if step == "down" and down:
            machine.receive(down.pop(0))
        elif step == "up" and up:
            judgement = judge.receive(up.pop(0), 0.0)
            assert not isinstance(judgement, gateway.Offence), judgement
        elif step == "shake hands" or step in SENT:
            name = machine.handshake.name if step == "shake hands" else step
            if machine.admit(Opcode[name]):
                machine.goes_out(Opcode[name])
                up.append(written(name))
        elif judge.phase is gateway.Phase.CLOSING:
            continue
        elif step == "hello" and judge.phase is gateway.Phase.AWAITING_HELLO:
            judge.hello_sent(0.0, 45.0)
            down.append(envelope(*ARRIVING["hello"][0]))
        elif step == "answer" and judge.phase in (gateway.Phase.IDENTIFYING, gateway.Phase.RESUMING):
            name = "ready" if judge.phase is gateway.Phase.IDENTIFYING else "resumed"
            judge.session_started()
            down.append(envelope(*ARRIVING[name][0], 1))
        elif step in ("op9_true", "op9_other") and judge.phase is not gateway.Phase.AWAITING_HELLO:
            judge.session_invalidated()
            down.append(envelope(*ARRIVING[step][0]))
        elif step in ("beat_now", "reconnect"):
            down.append(envelope(*ARRIVING[step][0]))
        elif step == "close":
            judge.close_sent()


# --- close codes ---

CLOSES = """
1000 once
1001 once
1002-1015 resume
4000 resume
4001 once
4002 resume
4003 identify gone
4004 AuthenticationFailed
4005 once
4006 resume
4007 identify gone
4008 resume slowly
4009 identify gone
4010 InvalidShard
4011 ShardingRequired
4012 InvalidVersion
4013 InvalidIntents
4014 DisallowedIntents
4015-4099 resume
"""
"""What becomes of the session. ``once``: when the same session is closed this way again, it is given up. ``gone``: by
Discord's word, so a new one waits 1 to 5 s. ``slowly``: so does a Resume. A name is the error that ends the shard."""


def close_table() -> dict[int, str]:
    fates: dict[int, str] = {}
    for line in CLOSES.strip().splitlines():
        codes, fate = line.split(maxsplit=1)
        first, _, last = codes.partition("-")
        for code in range(int(first), int(last or first) + 1):
            assert code not in fates
            fates[code] = fate
    return fates


FATES = close_table()
RESUME_WAITS = [(0.0, 0.0), (0.0, 1.0)]
"""Bounds in seconds of the wait before the first attempt and before the second: at once, then with full jitter."""
IDENTIFY_WAITS = [(2.5, 5.0), (5.0, 10.0)]
"""The same after one session start in the last half hour, and after two: the upper half of 5 and of 10 s."""
SPACING = (5.0, 5.5)
"""Seconds between two session starts at least (Discord's, and half a second for the way)."""
INVALIDATED_WAIT = (1.0, 5.0)


def test_every_close_code_has_its_fate():
    assert set(FATES) == {*range(1000, 1016), *range(4000, 4100)}
    fatal = {code: fate for code, fate in FATES.items() if fate[0].isupper()}
    assert set(fatal) == {4004, 4010, 4011, 4012, 4013, 4014}
    assert all(issubclass(getattr(errors, fate), errors.ShardFailed) for fate in fatal.values())
    assert set(FATES.values()) - set(fatal.values()) == {"resume", "resume slowly", "once", "identify gone"}


class Closing:
    """A policy, and what the table says of it, through a row of closes."""

    def __init__(self, seed: int = 0) -> None:
        self.policy = Recovery(shard=(1, 2), backoff=Backoff(), random=Random(seed))
        self.now = 1000.0
        self.starts = 0
        self.last_start: float | None = None
        self.suspect: str | None = None
        self.attempts = 0

    def identify(self) -> None:
        self.policy.identifies(self.now)
        self.last_start = self.now
        self.starts += 1

    def close(self, code: int, phase: Phase, session: Session | None, *, stable: bool = False) -> Session | None:
        """Close, compare session and delay with the table, and return what is resumed."""
        fate = FATES[code]
        outcome = Outcome(Ending.CLOSED, phase, session=session, code=code, ready_for=60.0 if stable else None)
        if fate[0].isupper():
            with pytest.raises(errors.ShardFailed) as failure:
                self.policy.after(outcome, self.now)
            assert type(failure.value) is getattr(errors, fate)
            assert (failure.value.code, failure.value.shard) == (code, (1, 2))
            raise Fatal
        if stable:
            self.suspect, self.attempts = None, 0
        kept = session
        if fate == "once" and session is not None:
            kept = None if self.suspect == session.id else session
            self.suspect = session.id
        elif fate == "identify gone":
            kept = None
        plan = self.policy.after(outcome, self.now)
        assert plan.session == kept
        low, high = self.bounds(fate, kept)
        assert low <= plan.delay <= high, (code, phase, plan.delay)
        self.attempts += 1
        self.now += plan.delay
        return plan.session

    def bounds(self, fate: str, kept: Session | None) -> tuple[float, float]:
        """Between what the wait has to lie: every reason for waiting has its own bounds, and the longest counts."""
        reasons = [RESUME_WAITS[min(self.attempts, 1)] if self.attempts < 2 else (0.0, 60.0)]
        if kept is None:
            if self.starts:
                reasons.append(IDENTIFY_WAITS[self.starts - 1] if self.starts <= 2 else (10.0, 600.0))
            if self.last_start is not None:
                since = self.now - self.last_start
                reasons.append((max(0.0, SPACING[0] - since), max(0.0, SPACING[1] - since)))
        if fate == "identify gone" or (fate == "resume slowly" and kept is not None):
            reasons.append(INVALIDATED_WAIT)
        return max(low for low, _ in reasons), max(high for _, high in reasons)


class Fatal(Exception):
    """The shard has ended."""


ENDED_IN = [
    Phase.CONNECTING,
    Phase.AWAITING_HELLO,
    Phase.GREETED,
    Phase.IDENTIFYING,
    Phase.RESUMING,
    Phase.READY,
]
"""How far a connection can have come. CLOSING and CLOSED are none of it: the last phase before them counts."""


def test_how_far_it_came_is_one_of_these():
    reached = set()
    for phase in Phase:
        machine = machine_in(phase)
        machine.close()
        machine.closed()
        reached.add(machine.reached)
    assert reached == set(ENDED_IN)


@each_session
@pytest.mark.parametrize("phase", ENDED_IN, ids=lambda phase: phase.name)
@pytest.mark.parametrize("seconds_after", [0.0, 2.0, 100.0])
def test_what_follows_each_close_the_first_time_and_the_second(phase, session, seconds_after):
    for code in FATES:
        shard = Closing(seed=code)
        shard.identify()
        kept = session
        try:
            for _ in range(2):
                shard.now += seconds_after
                again = shard.close(code, phase, kept)
                if again is None:
                    shard.identify()
                    # The new session is closed in the same way; without one, the handshake was.
                    again = None if kept is None else replace_id(kept)
                kept = again
        except Fatal:
            assert shard.attempts == 0, "the first time is the last"


def replace_id(session: Session) -> Session:
    return Session(id=session.id + "'", sequence=1, resume_url=session.resume_url)


CLOSED_BY = st.sampled_from([code for code, fate in FATES.items() if not fate[0].isupper()])
CLOSED_BY |= st.sampled_from([1000, 1001, 4001, 4003, 4005, 4007, 4008, 4009])


@given(
    seed=st.integers(0, 1000),
    rows=st.lists(st.tuples(CLOSED_BY, st.sampled_from([0.0, 3.0, 70.0]), st.booleans()), max_size=12),
)
def test_closes_in_a_row_go_as_the_table_says(seed, rows):
    shard = Closing(seed)
    shard.identify()
    session = SESSION
    for code, lasted, stable in rows:
        shard.now += 60.0 + lasted if stable else lasted
        kept = shard.close(code, Phase.READY, session, stable=stable)
        if kept is None:
            shard.identify()
            kept = replace_id(session)
        session = kept
