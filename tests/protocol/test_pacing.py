"""How often: the limits against a brute-force count of every window, and the waits of the backoff."""

from __future__ import annotations

import math
from bisect import insort
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard.protocol.pacing import (
    FULL_LIST_PERIOD,
    JITTER_ALLOWANCE,
    POSTPONED,
    PRESENCE_LIMIT,
    PRESENCE_PERIOD,
    SEND_LIMIT,
    SEND_PERIOD,
    Backoff,
    BotLimits,
    Lane,
    SendBudget,
    SlidingLog,
)
from trioshard.protocol.pulse import MAX_INTERVAL, MIN_INTERVAL


def shortest_window(times: list[float], count: int) -> float:
    """The shortest time in which so many of these moments lie."""
    ordered = sorted(times)
    return min((last - first for first, last in zip(ordered, ordered[count - 1 :], strict=False)), default=math.inf)


# SlidingLog

EIGHTHS = st.integers(0, 80).map(lambda eighths: eighths / 8)
"""Moments that floats represent exactly."""

SENDS = st.lists(
    st.tuples(EIGHTHS, EIGHTHS, st.integers(0, 8).map(lambda eighths: eighths / 8), st.booleans() | st.just(True)),
    max_size=60,
)
"""For each: seconds after the one before, seconds that the write takes, when in it the bytes leave, whether they do."""


class Sends:
    """Plays sends with their write delays against a log, and keeps its own account of them."""

    def __init__(self, log: SlidingLog) -> None:
        self.log = log
        self.open: list[tuple[float, bool]] = []
        self.committed: list[float] = []
        self.left: list[float] = []

    def arrive(self, now: float, delay: float, share: float, succeeds: bool) -> None:
        self.finish(now)
        allowed = len(self.open) + self.in_window(now) < self.log.limit
        wait = self.log.wait(now)
        assert (wait == 0.0) is allowed
        assert self.log.used(now) == len(self.open) + self.in_window(now)
        if allowed:
            self.log.take()
            insort(self.open, (now + delay, succeeds))
            if succeeds:
                self.left.append(now + share * delay)
        elif wait == math.inf:
            assert len(self.open) >= self.log.limit
        else:
            assert len(self.open) + self.in_window(now + wait) < self.log.limit
            assert len(self.open) + self.in_window(now + wait - 1 / 16) >= self.log.limit

    def finish(self, now: float) -> None:
        while self.open and self.open[0][0] <= now:
            moment, succeeded = self.open.pop(0)
            if succeeded:
                self.log.commit(moment)
                self.committed.append(moment)
            else:
                self.log.give_back()

    def in_window(self, now: float) -> int:
        return sum(moment > now - self.log.period for moment in self.committed)


@given(sends=SENDS, limit=st.integers(1, 6), period=st.integers(1, 30))
def test_no_window_ever_holds_more_than_the_limit(sends, limit, period):
    played = Sends(SlidingLog(limit, float(period)))
    now = 0.0
    for gap, delay, share, succeeds in sends:
        now += gap
        played.arrive(now, delay, share, succeeds)
    assert shortest_window(played.left, limit + 1) >= period


def test_a_send_that_did_not_happen_leaves_no_trace():
    log = SlidingLog(1, 10.0)
    log.take()
    assert log.wait(0.0) == math.inf
    log.give_back()
    assert (log.used(0.0), log.wait(0.0)) == (0, 0.0)


def test_a_window_starts_when_the_write_was_done():
    log = SlidingLog(1, 10.0)
    log.take()
    log.commit(7.0)
    assert (log.wait(7.0), log.wait(16.5), log.wait(17.0)) == (10.0, 0.5, 0.0)


def test_a_smaller_limit_waits_longer():
    log = SlidingLog(4, 10.0)
    for moment in (1.0, 2.0, 3.0):
        log.take()
        log.commit(moment)
    assert [log.wait(3.0, limit) for limit in (4, 3, 2, 1, 0)] == [0.0, 8.0, 9.0, 10.0, math.inf]


# SendBudget

INTERVALS = st.floats(MIN_INTERVAL, 120.0) | st.floats(MIN_INTERVAL, MAX_INTERVAL) | st.just(MIN_INTERVAL)
FLOODERS = (Lane.USER, Lane.REQUESTED_BEAT)


def send(budget: SendBudget, now: float, sent: list[float]) -> None:
    budget.take()
    budget.commit(now)
    sent.append(now)


def flood(budget: SendBudget, now: float, sent: list[float], lanes: tuple[Lane, ...] = FLOODERS) -> None:
    """Users and requested beats take whatever they may."""
    for lane in lanes:
        for _ in range(SEND_LIMIT + 1):
            if budget.wait(now, lane) > 0.0:
                break
            send(budget, now, sent)


def moments(interval: float, jitter: float) -> list[tuple[float, bool]]:
    """Every quarter of a second for four windows, and among them the scheduled beats (True)."""
    end = 4 * SEND_PERIOD
    beats = [(interval * (jitter + count), True) for count in range(int(end / interval) + 2)]
    return sorted([*beats, *((quarter / 4, False) for quarter in range(int(end * 4)))])


@pytest.mark.parametrize("lanes", [(Lane.USER,), FLOODERS, FLOODERS[::-1]], ids=["users", "users first", "beats first"])
@given(interval=INTERVALS, jitter=st.floats(0.0, 1.0))
def test_scheduled_beats_always_find_a_slot(lanes, interval, jitter):
    budget = SendBudget(interval)
    sent: list[float] = []
    assert budget.wait(0.0, Lane.HANDSHAKE) == 0.0
    send(budget, 0.0, sent)
    for now, is_beat in moments(interval, jitter):
        flood(budget, now, sent, lanes)
        if is_beat:
            assert budget.wait(now, Lane.SCHEDULED_BEAT) == 0.0
            send(budget, now, sent)
    assert shortest_window(sent, SEND_LIMIT + 1) > SEND_PERIOD


def test_the_shortest_interval_leaves_room_for_all_its_beats():
    budget = SendBudget(MIN_INTERVAL)
    sent: list[float] = []
    send(budget, 0.0, sent)
    flood(budget, 0.0, sent)
    for second in range(120):
        assert budget.wait(second + 0.1, Lane.SCHEDULED_BEAT) == 0.0
        send(budget, second + 0.1, sent)


@given(interval=INTERVALS)
def test_users_never_get_at_the_reserved_slots(interval):
    budget = SendBudget(interval)
    users: list[float] = []
    flood(budget, 0.0, users, (Lane.USER,))
    assert len(users) == budget.limit(Lane.USER)
    assert budget.left(0.0) == 0
    assert budget.wait(0.0, Lane.USER) > SEND_PERIOD
    requested: list[float] = []
    flood(budget, 0.0, requested, (Lane.REQUESTED_BEAT,))
    assert len(requested) >= 2
    scheduled = budget.left(0.0, Lane.SCHEDULED_BEAT)
    assert scheduled >= math.ceil(SEND_PERIOD / interval)
    flood(budget, 0.0, users, (Lane.USER,))
    assert budget.left(0.0, Lane.SCHEDULED_BEAT) == scheduled


@pytest.mark.parametrize("interval", [MIN_INTERVAL, 5.0, 41.25, 45.0, MAX_INTERVAL])
def test_users_keep_a_good_part_of_the_budget(interval):
    assert SendBudget(interval).limit(Lane.USER) >= (50 if interval < 5 else 100)


@given(
    interval=INTERVALS,
    sends=st.lists(st.tuples(EIGHTHS, EIGHTHS, st.sampled_from(Lane), st.integers(1, 60)), max_size=40),
)
def test_never_more_than_120_in_any_60_seconds(interval, sends):
    budget = SendBudget(interval)
    sent: list[float] = []
    now = 0.0
    for gap, delay, lane, count in sends:
        now += gap
        allowed = [lane for _ in range(count) if budget.wait(now, lane) == 0.0 and not budget.take()]
        now += delay
        for number, _ in enumerate(allowed):
            if number % 7:
                budget.commit(now)
                sent.append(now)
            else:
                budget.give_back()
    assert shortest_window(sent, SEND_LIMIT + 1) > SEND_PERIOD


def test_the_budget_says_how_much_is_left():
    budget = SendBudget(45.0)
    before = budget.left(0.0)
    budget.take()
    assert budget.left(0.0) == before - 1
    budget.commit(5.0)
    assert (budget.left(5.0), budget.left(65.0), budget.left(66.0)) == (before - 1, before - 1, before)
    for _ in range(SEND_LIMIT):
        budget.take()
    assert [budget.left(66.0, lane) for lane in Lane] == [0] * len(Lane)


# BotLimits


def done(limits: BotLimits, key: object, now: float) -> None:
    limits.take(key)
    limits.commit(key, now)


def test_five_presences_in_twenty_seconds():
    limits = BotLimits()
    for second in range(PRESENCE_LIMIT):
        assert limits.wait("presence", second) == 0.0
        done(limits, "presence", second)
    assert limits.wait("presence", 5.0) == pytest.approx(PRESENCE_PERIOD + JITTER_ALLOWANCE - 5.0)


def test_one_full_list_per_guild_in_thirty_seconds():
    limits = BotLimits()
    done(limits, 7, 0.0)
    assert limits.wait(7, 0.0) == FULL_LIST_PERIOD + JITTER_ALLOWANCE
    assert limits.wait(8, 0.0) == 0.0
    assert limits.wait("presence", 0.0) == 0.0


def test_no_key_no_limit():
    limits = BotLimits()
    for _ in range(1000):
        done(limits, None, 0.0)
    limits.take(None)
    limits.give_back(None)
    assert limits.wait(None, 0.0) == 0.0


@pytest.mark.parametrize("key", ["presence", 7])
def test_a_permit_that_was_given_back_counts_no_more(key):
    limits = BotLimits()
    for _ in range(PRESENCE_LIMIT):
        limits.take(key)
    assert limits.wait(key, 0.0) == math.inf
    for _ in range(PRESENCE_LIMIT):
        limits.give_back(key)
    assert limits.wait(key, 0.0) == 0.0


@pytest.mark.parametrize("key", ["presence", 7])
@pytest.mark.parametrize("until", [101.0, 125.0, 500.0])
def test_nothing_goes_before_discord_said(key, until):
    limits = BotLimits()
    limits.postpone(key, until)
    assert limits.wait(key, 100.0) == pytest.approx(until - 100.0)
    assert limits.wait(key, until) == 0.0
    assert limits.wait(8, 100.0) == 0.0


@pytest.mark.parametrize("key", ["presence", 7])
def test_not_even_if_a_send_ends_after_the_word_came(key):
    limits = BotLimits()
    limits.take(key)
    limits.postpone(key, 500.0)
    limits.commit(key, 100.0)
    assert limits.wait(key, 130.0) == pytest.approx(370.0)
    assert limits.wait(key, 499.0) > 0.0
    assert limits.wait(key, 500.0) == 0.0


def kept(limits: BotLimits) -> int:
    """How many things it remembers."""
    return sum(len(memory) for memory in vars(limits).values())


def test_guilds_are_forgotten_when_their_limit_is_over():
    limits = BotLimits()
    for guild in range(1000):
        done(limits, guild, guild * 1.0)
    assert kept(limits) <= FULL_LIST_PERIOD + 2
    assert limits.wait(999, 999.0) > 0.0


def test_postponements_are_forgotten_too():
    limits = BotLimits()
    for guild in range(1000):
        limits.postpone(guild, guild + 1.0)
    done(limits, "presence", 2000.0)
    assert kept(limits) == 1


def test_a_send_that_is_under_way_is_not_forgotten():
    limits = BotLimits()
    limits.take(7)
    done(limits, 8, 1000.0)
    assert limits.wait(7, 1000.0) == math.inf
    limits.commit(7, 1001.0)
    assert limits.wait(7, 1001.0) == FULL_LIST_PERIOD + JITTER_ALLOWANCE


# Backoff


@given(failures=st.integers(-5, 2000), seed=st.integers(0, 1000))
def test_waits_before_an_attempt(failures, seed):
    backoff = Backoff(base=2.0, cap=30.0)
    wait = backoff.before_attempt(failures, Random(seed))
    longest = 0.0 if failures <= 0 else min(30.0, math.ldexp(2.0, min(failures - 1, 10)))
    assert 0.0 <= wait <= longest


@given(recent=st.integers(-5, 2000), seed=st.integers(0, 1000))
def test_waits_before_an_identify(recent, seed):
    backoff = Backoff(identify_base=3.0, identify_cap=100.0)
    wait = backoff.before_identify(recent, Random(seed))
    longest = 0.0 if recent <= 0 else min(100.0, math.ldexp(3.0, min(recent - 1, 10)))
    assert longest / 2 <= wait <= longest


def test_jitter_uses_the_whole_range():
    backoff, random = Backoff(), Random(1)
    attempts = [backoff.before_attempt(4, random) for _ in range(1000)]
    identifies = [backoff.before_identify(2, random) for _ in range(1000)]
    assert (min(attempts), max(attempts)) == (pytest.approx(0.0, abs=0.1), pytest.approx(8.0, abs=0.1))
    assert (min(identifies), max(identifies)) == (pytest.approx(5.0, abs=0.1), pytest.approx(10.0, abs=0.1))


def test_waits_grow_on_average():
    backoff = Backoff()

    def mean(failures: int) -> float:
        random = Random(2)
        return sum(backoff.before_attempt(failures, random) for _ in range(200)) / 200

    assert all(earlier < later for earlier, later in pairwise(mean(failures) for failures in range(7)))


@pytest.mark.parametrize("name", ["base", "cap", "identify_base", "identify_cap"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_a_backoff_that_makes_no_sense(name, value):
    with pytest.raises(ValueError, match=f"Backoff.{name} "):
        Backoff(**{name: value})


def test_a_backoff_with_less_than_no_prompt_reconnects_makes_no_sense():
    with pytest.raises(ValueError, match=r"Backoff\.prompt "):
        Backoff(prompt=-1)


def test_made_up_postponements_fill_no_memory():
    limits = BotLimits()
    for guild in range(POSTPONED + 10):
        limits.postpone(guild, 600.0)
    assert limits.wait(9, 0.0) == 0.0, "the oldest make room"
    assert limits.wait(10, 0.0) == 600.0
    assert limits.wait(POSTPONED + 9, 0.0) == 600.0
