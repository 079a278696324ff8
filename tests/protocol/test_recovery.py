"""The reconnect policy: each outcome by itself, outcomes in a row, and whole days with servers that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, cycle, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard import errors
from trioshard.protocol.pacing import Backoff
from trioshard.protocol.phases import Phase
from trioshard.protocol.recovery import (
    FIRST_CONNECTS,
    FRUITLESS_RESUMES,
    HELD,
    IDENTIFY_SPACING,
    POISONED,
    RESUME_URL_FAILURES,
    STABLE,
    Ending,
    Outcome,
    Plan,
    Recovery,
)
from trioshard.protocol.session import Session

from .samples import SESSION

# Before a connection is CLOSING, it can end in any of these.
PHASES = [
    Phase.CONNECTING,
    Phase.AWAITING_HELLO,
    Phase.GREETED,
    Phase.IDENTIFYING,
    Phase.RESUMING,
    Phase.READY,
]

# Close code: what becomes of a session.
CLOSE_CODES: dict[int | None, str] = {
    None: "kept",
    1000: "kept once",
    1001: "kept once",
    1006: "kept",
    1011: "kept",
    4000: "kept",
    4001: "kept once",
    4002: "kept",
    4003: "gone",
    4004: "AuthenticationFailed",
    4005: "kept once",
    4006: "kept",
    4007: "gone",
    4008: "kept",
    4009: "gone",
    4010: "InvalidShard",
    4011: "ShardingRequired",
    4012: "InvalidVersion",
    4013: "InvalidIntents",
    4014: "DisallowedIntents",
    4999: "kept",
}

TROUBLE = [
    Ending.RECONNECT,
    Ending.LOST,
    Ending.TIMED_OUT,
    Ending.ZOMBIE,
    Ending.STALLED,
    Ending.BROKEN,
    Ending.FROZEN,
]
"""Endings that say nothing against the session."""

each_phase = pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)


def recovery(seed: int = 0, **backoff: float) -> Recovery:
    return Recovery(shard=(1, 2), backoff=Backoff(**backoff), random=Random(seed))


def ended(ending: Ending, phase: Phase = Phase.READY, session: Session | None = SESSION, **more: Any) -> Outcome:
    return Outcome(ending, phase, session=session, **more)


def closed(code: int | None, phase: Phase = Phase.READY, session: Session | None = SESSION, **more: Any) -> Outcome:
    return Outcome(Ending.CLOSED, phase, session=session, code=code, **more)


def connected_before(seed: int = 0, **backoff: float) -> Recovery:
    """A policy whose last connection was stable."""
    policy = recovery(seed, **backoff)
    policy.after(ended(Ending.LOST, ready_for=STABLE), 0.0)
    policy.after(ended(Ending.LOST, ready_for=STABLE), 0.0)
    return policy


# One ending at a time


@pytest.mark.parametrize(("code", "fate"), CLOSE_CODES.items())
@pytest.mark.parametrize("session", [SESSION, None], ids=["session", "no session"])
@each_phase
def test_close_codes(code, fate, session, phase):
    policy = recovery()
    outcome = closed(code, phase, session)
    if fate[0].isupper():
        with pytest.raises(getattr(errors, fate)) as failure:
            policy.after(outcome, 0.0)
        assert (failure.value.code, failure.value.shard) == (code, (1, 2))
        assert str(code) in str(failure.value)
        return
    kept = [policy.after(outcome, 0.0).session for _ in range(3)]
    if session is None or fate == "gone":
        assert kept == [None, None, None]
    elif fate == "kept once":
        assert kept == [session, None, None]
    else:
        assert kept == [session, session, session]


@pytest.mark.parametrize("ending", TROUBLE)
@pytest.mark.parametrize("session", [SESSION, None], ids=["session", "no session"])
@each_phase
def test_other_endings_keep_what_there_is(ending, session, phase):
    assert recovery().after(ended(ending, phase, session), 0.0).session is session


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("session", [SESSION, None], ids=["session", "no session"])
@each_phase
def test_op_9(resumable, session, phase):
    policy = connected_before()
    policy.identifies(0.0)
    plan = policy.after(ended(Ending.INVALIDATED, phase, session, resumable=resumable), 1000.0)
    assert plan.session is (session if resumable else None)
    if plan.session is None:
        assert plan.delay >= (6.0 if phase is Phase.IDENTIFYING else 1.0)


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
def test_a_fatal_error_says_what_to_do(code):
    with pytest.raises(errors.ShardFailed, match=r"shard 1 of 2 .*To do: "):
        recovery().after(closed(code), 0.0)


@pytest.mark.parametrize("code", [4004, 1000, 4003])
def test_a_code_counts_only_when_the_connection_was_closed(code):
    assert recovery().after(ended(Ending.LOST, code=None), 0.0).session is SESSION
    assert recovery().after(ended(Ending.RECONNECT, code=code), 0.0).session is SESSION


def test_rate_limited_comes_back_slowly():
    assert connected_before().after(closed(4008, ready_for=100.0), 0.0).delay >= 1.0


# Where to


def test_the_beginning():
    assert recovery().first(None) == Plan(0.0, None, at_resume_url=False, refresh_url=False)
    assert recovery().first(SESSION) == Plan(0.0, SESSION, at_resume_url=True, refresh_url=False)


def test_a_session_is_resumed_at_its_own_url_and_a_new_one_begins_at_the_gateway():
    assert recovery().after(ended(Ending.RECONNECT), 0.0).at_resume_url
    assert not recovery().after(closed(4009), 0.0).at_resume_url
    assert not recovery().after(ended(Ending.LOST, session=None), 0.0).at_resume_url


def test_while_nothing_connects_the_urls_take_turns():
    policy = connected_before()
    plans = [policy.after(ended(Ending.CONNECT_FAILED, Phase.CONNECTING), 0.0) for _ in range(4 * RESUME_URL_FAILURES)]
    rounds = [(number // RESUME_URL_FAILURES) for number in range(1, 4 * RESUME_URL_FAILURES + 1)]
    assert [plan.at_resume_url for plan in plans] == [number % 2 == 0 for number in rounds]
    assert [plan.refresh_url for plan in plans] == [number > 0 for number in rounds]
    assert {plan.session for plan in plans} == {SESSION}


def test_without_a_session_the_url_is_asked_for_anew():
    policy = connected_before()
    plans = [policy.after(ended(Ending.CONNECT_FAILED, Phase.CONNECTING, None), 0.0) for _ in range(6)]
    assert not any(plan.at_resume_url for plan in plans)
    assert [plan.refresh_url for plan in plans] == [False, True, True, True, True, True]


def test_a_connection_ends_the_taking_of_turns():
    policy = connected_before()
    for _ in range(RESUME_URL_FAILURES):
        plan = policy.after(ended(Ending.CONNECT_FAILED, Phase.CONNECTING), 0.0)
    assert (plan.at_resume_url, plan.refresh_url) == (False, True)
    plan = policy.after(ended(Ending.LOST), 0.0)
    assert (plan.at_resume_url, plan.refresh_url) == (True, False)


@pytest.mark.parametrize("ending", [Ending.TIMED_OUT, Ending.LOST])
def test_a_resume_url_that_never_says_hello_is_left_as_well(ending):
    policy = connected_before()
    plans = [policy.after(ended(ending, Phase.AWAITING_HELLO), 0.0) for _ in range(20)]
    assert not all(plan.at_resume_url for plan in plans)


# The first connection


def connect_failed(*, permanent: bool = False) -> Outcome:
    error = errors.ConnectFailed("no route", permanent=permanent)
    return ended(Ending.CONNECT_FAILED, Phase.CONNECTING, None, error=error)


def test_a_shard_that_never_connects_gives_up():
    policy = recovery()
    for _ in range(FIRST_CONNECTS - 1):
        assert policy.after(connect_failed(), 0.0).session is None
    last = connect_failed()
    with pytest.raises(errors.GatewayUnreachable, match=f"after {FIRST_CONNECTS} attempts: no route") as failure:
        policy.after(last, 0.0)
    assert failure.value.__cause__ is last.error
    assert (failure.value.shard, failure.value.code) == ((1, 2), None)


def test_a_permanent_failure_ends_it_at_once():
    with pytest.raises(errors.GatewayUnreachable, match="after 1 attempt: no route"):
        recovery().after(connect_failed(permanent=True), 0.0)


def test_attempts_are_counted_right_when_the_failure_turns_permanent():
    policy = recovery()
    policy.after(connect_failed(), 0.0)
    policy.after(connect_failed(), 0.0)
    with pytest.raises(errors.GatewayUnreachable, match="after 3 attempts"):
        policy.after(connect_failed(permanent=True), 0.0)


@pytest.mark.parametrize("permanent", [True, False])
def test_who_was_connected_once_never_gives_up(permanent):
    policy = recovery()
    policy.after(ended(Ending.TIMED_OUT, Phase.AWAITING_HELLO, None), 0.0)
    for _ in range(10 * FIRST_CONNECTS):
        policy.after(connect_failed(permanent=permanent), 0.0)


# Several in a row


def test_after_a_stable_connection_the_first_attempt_is_immediate():
    policy = connected_before(prompt=0)
    assert policy.after(ended(Ending.LOST, ready_for=STABLE), 0.0).delay == 0.0
    assert policy.failures == 1
    delays = [policy.after(ended(Ending.LOST, ready_for=STABLE - 1), 0.0).delay for _ in range(10)]
    assert all(delay > 0.0 for delay in delays)
    assert policy.failures == 11
    assert policy.after(ended(Ending.LOST, ready_for=STABLE), 0.0).delay == 0.0


def test_a_connection_that_held_for_a_second_is_followed_at_once_thirty_times_in_ten_minutes():
    policy = connected_before()
    for number in range(30):
        assert policy.after(ended(Ending.LOST, ready_for=HELD), float(number)).delay == 0.0
    assert policy.failures == 1
    delays = [policy.after(ended(Ending.LOST, ready_for=HELD), 590.0).delay for _ in range(5)]
    assert all(delay > 0.0 for delay in delays)
    assert policy.after(ended(Ending.LOST, ready_for=HELD), 600.1).delay == 0.0


def test_a_connection_that_did_not_hold_for_a_second_is_not_followed_at_once():
    policy = connected_before()
    assert policy.after(ended(Ending.LOST, ready_for=HELD - 0.01), 1.0).delay > 0.0
    assert policy.after(ended(Ending.LOST), 2.0).delay > 0.0


@given(seed=st.integers(0, 10_000), failures=st.integers(0, 40))
def test_attempts_back_off_to_a_minute(seed, failures):
    policy = recovery(seed)
    for _ in range(failures):
        policy.after(ended(Ending.LOST), 0.0)
    longest = 0.0 if failures == 0 else min(60.0, 2.0 ** (failures - 1))
    assert 0.0 <= policy.after(ended(Ending.LOST), 0.0).delay <= longest


def test_a_code_that_is_tried_once_is_tried_again_after_a_stable_time():
    policy = recovery()
    assert policy.after(closed(4001), 0.0).session is SESSION
    assert policy.after(closed(4001, ready_for=STABLE), 100.0).session is SESSION
    assert policy.after(closed(4005), 200.0).session is None


def test_a_code_that_is_tried_once_is_tried_once_with_each_session():
    policy = recovery()
    for number in range(3):
        session = replace_id(SESSION, number)
        assert policy.after(closed(1000, session=session), 0.0).session is session
        assert policy.after(closed(1000, session=session), 0.0).session is None


def replace_id(session: Session, number: int) -> Session:
    return Session(id=f"session {number}", sequence=session.sequence, resume_url=session.resume_url)


def test_messages_that_cannot_be_decoded_poison_a_sequence():
    policy = recovery()
    kept = [policy.after(ended(Ending.BROKEN, Phase.RESUMING, progressed=True), 0.0).session for _ in range(3)]
    assert kept == [SESSION] * POISONED + [None]


def test_progress_between_them_takes_the_poison_away():
    policy = recovery()
    for sequence in range(40, 80):
        session = SESSION.at(sequence // 2)
        assert policy.after(ended(Ending.BROKEN, session=session), 0.0).session is session


def test_a_new_session_is_not_poisoned_by_the_old_one():
    policy = recovery()
    for _ in range(POISONED + 1):
        policy.after(ended(Ending.BROKEN), 0.0)
    other = replace_id(SESSION, 1)
    assert policy.after(ended(Ending.BROKEN, session=other), 0.0).session is other


@pytest.mark.parametrize("phase", [Phase.GREETED, Phase.RESUMING])
@pytest.mark.parametrize("ending", [Ending.LOST, Ending.TIMED_OUT, Ending.RECONNECT])
def test_fruitless_resumes_cost_the_session(phase, ending):
    policy = recovery()
    kept = [policy.after(ended(ending, phase), 0.0).session for _ in range(2 * FRUITLESS_RESUMES)]
    assert kept == ([SESSION] * (FRUITLESS_RESUMES - 1) + [None]) * 2


def test_resumes_that_end_in_a_resumable_op_9_are_fruitless_too():
    policy = recovery()
    outcome = ended(Ending.INVALIDATED, Phase.RESUMING, resumable=True)
    assert None in [policy.after(outcome, 0.0).session for _ in range(4 * FRUITLESS_RESUMES)]


@pytest.mark.parametrize(
    "fruitful", [ended(Ending.LOST, Phase.RESUMING, progressed=True), ended(Ending.LOST, Phase.READY)]
)
def test_anything_replayed_makes_up_for_them(fruitful):
    policy = recovery()
    for _ in range(10):
        for outcome in [*[ended(Ending.LOST, Phase.RESUMING)] * (FRUITLESS_RESUMES - 1), fruitful]:
            assert policy.after(outcome, 0.0).session is SESSION


NETWORK = st.builds(
    ended,
    st.sampled_from([Ending.LOST, Ending.CONNECT_FAILED, Ending.STALLED, Ending.ZOMBIE]),
    st.sampled_from([Phase.CONNECTING, Phase.AWAITING_HELLO, Phase.READY]),
    ready_for=st.sampled_from([None, 0.0, 59.0, 61.0]),
)


@given(outcomes=st.lists(NETWORK, max_size=80), seed=st.integers(0, 1000))
def test_the_network_never_costs_the_session(outcomes, seed):
    policy = connected_before(seed)
    for now, outcome in enumerate(outcomes):
        assert policy.after(outcome, float(now)).session is SESSION


# Identifies


def test_never_two_identifies_within_five_seconds():
    policy = recovery(identify_base=0.001)
    assert policy.identify_delay(0.0) == 0.0
    policy.identifies(100.0)
    assert [policy.identify_delay(now) for now in (100.0, 103.0, 105.5, 200.0)] == [5.5, 2.5, 0.0, 0.0]
    policy.identify_written(102.0)
    assert policy.identify_delay(105.0) == 2.5
    assert policy.after(ended(Ending.LOST, Phase.IDENTIFYING, None), 101.0).delay >= 4.0


@given(seed=st.integers(0, 10_000))
def test_each_new_session_in_half_an_hour_waits_longer_than_the_one_before(seed):
    policy = recovery(seed)
    now = 0.0
    identifies: list[float] = []
    for _ in range(12):
        identifies.append(now)
        policy.identifies(now)
        plan = policy.after(closed(4003), now)
        assert plan.session is None
        recent = sum(moment > now - 1800.0 for moment in identifies)
        assert min(600.0, 5.0 * 2 ** (recent - 1)) / 2 <= plan.delay <= max(60.0, min(600.0, 5.0 * 2 ** (recent - 1)))
        now += plan.delay
    assert identifies[6] - identifies[5] > 10 * (identifies[1] - identifies[0])


@pytest.mark.parametrize("code", [4003, 4007, 4009])
def test_after_half_an_hour_an_identify_is_forgotten(code):
    policy = connected_before()
    policy.identifies(0.0)
    assert policy.after(closed(code, ready_for=1801.0), 1801.0).delay <= 5.0


# Whole days

DAY = 86_400.0
MOST_ATTEMPTS = 10_000
Server = Callable[[Plan, Random], Outcome]
_numbers = count()


def new_session() -> Session:
    return Session(id=f"new {next(_numbers)}", sequence=1, resume_url="wss://resume.example/")


@dataclass
class History:
    attempts: list[float] = field(default_factory=list)
    identifies: list[float] = field(default_factory=list)


def live(server: Server, seed: int = 0, *, until: float = DAY) -> History:
    """Let a shard reconnect to a server for a day; everything but waiting takes no time at all."""
    random = Random(seed)
    policy = Recovery(shard=(0, 1), backoff=Backoff(), random=random)
    policy.after(ended(Ending.LOST, ready_for=STABLE), 0.0)
    history = History()
    plan = policy.first(None)
    now = 0.0
    while len(history.attempts) < MOST_ATTEMPTS:
        now += plan.delay
        if plan.session is None:
            now += policy.identify_delay(now)
        if now >= until:
            break
        history.attempts.append(now)
        outcome = server(plan, random)
        if plan.session is None and outcome.phase in (Phase.IDENTIFYING, Phase.READY):
            history.identifies.append(now)
            policy.identifies(now)
        now += outcome.ready_for or 0.0
        plan = policy.after(outcome, now)
    return history


def after_ready(ending: Ending, *, ready_for: float = 0.0, **details: Any) -> Server:
    """A server that lets everybody in, and then does this."""

    def server(plan: Plan, _: Random) -> Outcome:
        session = new_session() if plan.session is None else plan.session.at(plan.session.sequence + 1)
        return Outcome(ending, Phase.READY, session=session, ready_for=ready_for, progressed=True, **details)

    return server


def at_handshake(ending: Ending, **details: Any) -> Server:
    """A server that answers each handshake with this."""

    def server(plan: Plan, _: Random) -> Outcome:
        phase = Phase.IDENTIFYING if plan.session is None else Phase.RESUMING
        return Outcome(ending, phase, session=plan.session, **details)

    return server


def at_phase(ending: Ending, phase: Phase, **details: Any) -> Server:
    return lambda plan, _: Outcome(ending, phase, session=plan.session, **details)


def either(identify: Server, resume: Server) -> Server:
    return lambda plan, random: (identify if plan.session is None else resume)(plan, random)


def in_turn(*servers: Server) -> Callable[[], Server]:
    def build() -> Server:
        turns = cycle(servers)
        return lambda plan, random: next(turns)(plan, random)

    return build


LOST_AT_ONCE = after_ready(Ending.LOST)
OP_9_FALSE = at_handshake(Ending.INVALIDATED, resumable=False)
OP_9_TRUE = at_handshake(Ending.INVALIDATED, resumable=True)

PATHOLOGICAL: dict[str, Server] = {
    **{
        f"{code} after every READY": after_ready(Ending.CLOSED, code=code)
        for code, fate in CLOSE_CODES.items()
        if fate[0].islower()
    },
    **{
        f"{code} to every handshake": at_handshake(Ending.CLOSED, code=code)
        for code, fate in CLOSE_CODES.items()
        if fate[0].islower()
    },
    **{f"{ending.name} after every READY": after_ready(ending) for ending in [*TROUBLE, Ending.INVALIDATED]},
    **{f"{ending.name} at every handshake": at_handshake(ending) for ending in [*TROUBLE, Ending.INVALIDATED]},
    **{f"{ending.name} before Hello": at_phase(ending, Phase.AWAITING_HELLO) for ending in TROUBLE},
    **{f"{ending.name} after Hello": at_phase(ending, Phase.GREETED) for ending in TROUBLE},
    "nothing connects": at_phase(Ending.CONNECT_FAILED, Phase.CONNECTING),
    "op 9 true after every READY": after_ready(Ending.INVALIDATED, resumable=True),
    "op 9 true to every handshake": OP_9_TRUE,
    "READY, then op 9 false to the Resume": either(LOST_AT_ONCE, OP_9_FALSE),
    "READY, then op 9 true to the Resume": either(LOST_AT_ONCE, OP_9_TRUE),
    "READY, then 4007 to the Resume": either(LOST_AT_ONCE, at_handshake(Ending.CLOSED, code=4007)),
    "READY, then no answer to the Resume": either(LOST_AT_ONCE, at_handshake(Ending.TIMED_OUT)),
    "4003 when it has just become stable": after_ready(Ending.CLOSED, code=4003, ready_for=STABLE),
    "4003 when it is almost stable": after_ready(Ending.CLOSED, code=4003, ready_for=STABLE - 0.1),
    "op 9 false when it has just become stable": after_ready(Ending.INVALIDATED, ready_for=STABLE),
    "lost when it has just become stable": after_ready(Ending.LOST, ready_for=STABLE),
    "stable, then op 9 false to the Resume": either(after_ready(Ending.LOST, ready_for=STABLE), OP_9_FALSE),
}

KEEPS_ITS_SESSION = [
    "None after every READY",
    "4000 after every READY",
    "LOST after every READY",
    "ZOMBIE after every READY",
    "RECONNECT after every READY",
    "op 9 true after every READY",
    "lost when it has just become stable",
]


def check_day(history: History) -> None:
    assert len(history.identifies) < 500
    assert all(later - earlier >= IDENTIFY_SPACING for earlier, later in pairwise(history.identifies))
    # At most one attempt a second, in every minute of the day.
    assert all(later - earlier >= 60.0 for earlier, later in zip(history.attempts, history.attempts[60:], strict=False))
    assert len(history.attempts) < MOST_ATTEMPTS


@pytest.mark.parametrize("name", PATHOLOGICAL)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_with(name, seed):
    history = live(PATHOLOGICAL[name], seed)
    check_day(history)
    assert history.attempts[-1] > DAY - 3600.0


@pytest.mark.parametrize("name", KEEPS_ITS_SESSION)
def test_one_identify_is_enough_for_a_day_with(name):
    assert len(live(PATHOLOGICAL[name]).identifies) == 1


@pytest.mark.parametrize(
    "build",
    [
        in_turn(after_ready(Ending.CLOSED, code=4003), OP_9_FALSE),
        in_turn(LOST_AT_ONCE, OP_9_FALSE, at_phase(Ending.CONNECT_FAILED, Phase.CONNECTING)),
        in_turn(*[after_ready(Ending.CLOSED, code=4009, ready_for=STABLE)] * 2, OP_9_FALSE),
    ],
)
def test_a_day_of_several_kinds_in_turn(build):
    check_day(live(build()))


@given(seed=st.integers(0, 10**6), ready_for=st.sampled_from([0.0, 30.0, STABLE]))
def test_a_day_of_anything(seed, ready_for):
    servers = [*PATHOLOGICAL.values(), after_ready(Ending.CLOSED, code=4003, ready_for=ready_for)]
    check_day(live(lambda plan, random: random.choice(servers)(plan, random), seed))


# For the log


def test_an_outcome_in_words():
    assert str(ended(Ending.LOST)) == "the connection was lost (phase: ready)"
    assert str(closed(4009, Phase.RESUMING, detail="it took too long")) == (
        "the gateway closed the connection; code 4009: the session timed out; it took too long (phase: resuming)"
    )
