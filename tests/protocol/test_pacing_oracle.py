"""The limits against an oracle that knows nothing but the list of moments: it looks at every window there is.

A write is decided, its bytes leave at some moment, and later it is done; only the moment in the middle is Discord's
business. Times are eighths of seconds, which floats represent exactly, unless a test says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioshard.protocol.pacing import BotLimits, Lane, SendBudget, SlidingLog
from trioshard.testing import _rules as gateway

LIMIT, MINUTE = 120, 60.0
"""Discord's: so many payloads in any so many seconds, on one connection."""
PERIOD = 60.5
"""What the client goes by: half a second may get lost on the way."""
JITTER = 0.05
"""What the gateway lets pass."""

EIGHTHS = st.integers(0, 80).map(lambda eighths: eighths / 8)


def most_in_any_window(times: list[float], seconds: float) -> int:
    """How many of these moments the fullest window of this length holds, both of its ends included.

    A window that starts between two moments holds no more than the one that starts at the next of them.
    """
    return max((sum(start <= time <= start + seconds for time in times) for start in times), default=0)


def used(times: list[float], now: float, period: float) -> int:
    """How many of these the last seconds hold."""
    return sum(now - period < time <= now for time in times)


def test_the_oracle_finds_the_fullest_window_wherever_it_starts():
    assert most_in_any_window([], 10.0) == 0
    assert most_in_any_window([0.0, 9.0, 10.0, 19.0, 20.0], 10.0) == 3
    assert most_in_any_window([20.0, 0.0, 10.125], 10.0) == 2
    assert most_in_any_window([3.0] * 7, 10.0) == 7


# --- 120 in 60 s, with everybody at once ---


@dataclass(frozen=True)
class Write:
    """A write that was decided: it is done at a moment, its bytes left before, or it did not happen."""

    lane: Lane
    done: float
    left: float | None


@dataclass
class Connection:
    """A connection's budget, and what goes through it."""

    interval: float
    now: float = 0.0
    left: list[float] = field(default_factory=list)
    committed: list[Write] = field(default_factory=list)
    open: list[Write] = field(default_factory=list)
    steady_since: float = -math.inf
    """Since when the interval has not become shorter."""

    def __post_init__(self) -> None:
        self.budget = SendBudget(self.interval)

    def finish(self, now: float) -> None:
        """Let those writes end that do until ``now``, in their order."""
        for write in sorted(self.open, key=lambda write: write.done):
            if write.done <= now:
                self.open.remove(write)
                if write.left is None:
                    self.budget.give_back(write.lane)
                else:
                    self.budget.commit(write.done, write.lane)
                    self.committed.append(write)
        self.now = now

    def earliest(self, limit: int) -> float:
        """The first moment that has room, of all that are worth a look.

        Room is among the 120 of all, and in the limit of all but scheduled beats.
        """
        every = [write.done for write in self.committed]
        others = [write.done for write in self.committed if write.lane is not Lane.SCHEDULED_BEAT]
        others_open = sum(write.lane is not Lane.SCHEDULED_BEAT for write in self.open)
        for moment in sorted({self.now, *(time + PERIOD for time in every if time + PERIOD > self.now)}):
            room = used(every, moment, PERIOD) + len(self.open) < LIMIT
            if room and used(others, moment, PERIOD) + others_open < limit:
                return moment
        return math.inf

    def ask(self, lane: Lane) -> float:
        """Ask the budget, and check its answer."""
        wait = self.budget.wait(self.now, lane)
        assert self.now + wait == self.earliest(self.budget.limit(lane))
        assert (self.budget.left(self.now, lane) > 0) is (wait == 0.0)
        return wait

    def send(self, lane: Lane, seconds: float = 0.0, share: float = 1.0, succeeds: bool = True) -> float:
        """Send if it is allowed now; return how long it would have to wait."""
        wait = self.ask(lane)
        if wait == 0.0:
            self.budget.take(lane)
            left = self.now + share * seconds if succeeds else None
            self.open.append(Write(lane, self.now + seconds, left))
            if left is not None:
                self.left.append(left)
            self.finish(self.now)
        return wait

    def change_interval(self, interval: float) -> None:
        self.budget.change_interval(interval)
        if interval < self.interval:
            self.steady_since = self.now
        self.interval = interval


INTERVALS = st.sampled_from([1.0, 1.125, 2.0, 5.0, 41.25, 45.0, 60.0, 60.5, 61.0, 3600.0])
INTERVALS |= st.integers(8, 8 * 3600).map(lambda eighths: eighths / 8)
DELAYS = st.sampled_from([0.0, 0.0, 0.0, 0.125, 2.0, 10.0])
SHARES = st.sampled_from([0.0, 0.5, 1.0])
ASKING = st.tuples(
    st.sampled_from([Lane.USER, Lane.USER, Lane.REQUESTED_BEAT]),
    st.integers(1, 130),  # so many, or as many as may go
    DELAYS,
    SHARES,
    st.sampled_from([True, True, True, False]),
)
TRAFFIC = st.lists(st.tuples(EIGHTHS, ASKING | INTERVALS), max_size=25)


@settings(max_examples=60)
@given(interval=INTERVALS, jitter=st.integers(0, 8), beat_delay=DELAYS, traffic=TRAFFIC)
def test_never_more_than_120_in_any_minute_and_no_scheduled_beat_waits(interval, jitter, beat_delay, traffic):
    connection = Connection(interval)
    next_beat = interval * jitter / 8
    connection.send(Lane.HANDSHAKE, 1.0)
    end = 0.0

    def beat_until(moment: float) -> None:
        nonlocal next_beat
        while next_beat <= moment:
            connection.finish(max(next_beat, connection.now))
            delay = min(beat_delay, connection.interval)
            wait = connection.send(Lane.SCHEDULED_BEAT, delay)
            # When the interval became shorter, what users had before may fill one last window, no longer. A write
            # that was under way then may count for up to ten seconds more.
            assert wait == 0.0 or connection.now < connection.steady_since + PERIOD + 10.0
            next_beat = connection.now + (wait or connection.interval)

    for gap, step in traffic:
        end += gap
        beat_until(end)
        connection.finish(end)
        if isinstance(step, float):
            connection.change_interval(step)
            next_beat = min(next_beat, end + step)
            continue
        lane, count, delay, share, succeeds = step
        for _ in range(count):
            if connection.send(lane, delay, share, succeeds) > 0.0:
                break
    beat_until(end + PERIOD)
    assert most_in_any_window(connection.left, MINUTE) <= LIMIT
    # What leaves a client like this may be bunched by half a second on the way, and the gateway is content.
    arrivals = sorted(time + 0.5 * (number % 2) for number, time in enumerate(sorted(connection.left)))
    window = gateway.SlidingWindow(LIMIT, MINUTE)
    assert all(window.admit(time) for time in arrivals)


@pytest.mark.parametrize("interval", [1.0, 5.0, 41.25, 3600.0])
def test_beats_never_wait_for_users_who_want_everything(interval):
    connection = Connection(interval)
    next_beat = interval / 8
    for eighth in range(8 * 200):
        now = eighth / 8
        connection.finish(now)
        for lane in (Lane.USER, Lane.REQUESTED_BEAT):
            while connection.send(lane) == 0.0:
                pass
        if now >= next_beat:
            assert connection.send(Lane.SCHEDULED_BEAT) == 0.0
            next_beat += interval
    assert most_in_any_window(connection.left, MINUTE) <= LIMIT


def test_a_longer_interval_does_not_give_away_what_beats_still_hold():
    connection = Connection(1.0)
    for second in range(61):
        connection.finish(float(second))
        connection.send(Lane.SCHEDULED_BEAT)
    connection.change_interval(3600.0)
    for lane in (Lane.USER, Lane.REQUESTED_BEAT):
        while connection.send(lane) == 0.0:
            pass
    connection.finish(60.25)
    assert connection.send(Lane.SCHEDULED_BEAT) == 0.0


def test_users_leave_room_for_requested_beats_and_scheduled_ones():
    connection = Connection(41.25)
    while connection.send(Lane.USER) == 0.0:
        pass
    assert [connection.send(Lane.REQUESTED_BEAT) == 0.0 for _ in range(3)] == [True, True, False]
    # ceil(60.5 / 41.25) + 1: as many beats as a window can hold, wherever it starts; and one whose write took long.
    assert [connection.send(Lane.SCHEDULED_BEAT) == 0.0 for _ in range(5)] == [True, True, True, True, False]
    assert len(connection.left) == LIMIT


@pytest.mark.parametrize("interval", [1.0, 2.0, 5.0, 41.25, 45.0, 3600.0])
@pytest.mark.parametrize("requested", [0, 5])
def test_the_limiter_is_not_lazy(interval, requested):
    """A user who always has something to send gets what the reserve leaves, in every window of 60.5 s.

    The bound: a window holds at most B = ceil(60.5 / interval) + 1 scheduled beats, and for so many room is kept,
    2 places for requested beats, and 1 for the handshake. What the server asks for and the handshake itself count as
    well: at least 117 - B - 1 - requested are the user's. With Discord's 41.25 s this is 113, with a beat every
    second 54.
    """
    connection = Connection(interval)
    connection.send(Lane.HANDSHAKE)
    users: list[float] = []
    next_beat = interval / 2
    for eighth in range(8 * 190):
        now = eighth / 8
        connection.finish(now)
        if now >= next_beat:
            assert connection.send(Lane.SCHEDULED_BEAT) == 0.0
            next_beat += interval
        if requested and now % 15.0 == 0.0:  # five of them fit into a window
            connection.send(Lane.REQUESTED_BEAT)
        while connection.send(Lane.USER) == 0.0:
            users.append(now)
        beats = math.ceil(PERIOD / interval) + 1
        assert used(users, now, PERIOD) >= 117 - beats - 1 - requested


# --- waits, with any float ---


@given(
    times=st.lists(st.floats(0.0, 1e6) | st.floats(0.0, 70.0), min_size=1, max_size=30),
    limit=st.integers(1, 5),
    start=st.floats(0.0, 1e6),
)
def test_who_waits_as_long_as_he_was_told_may_send(times, limit, start):
    log = SlidingLog(limit, PERIOD)
    now = start
    for gap in times:
        now += gap
        for _ in range(3):
            wait = log.wait(now)
            if wait == 0.0:
                break
            # A moment later than now, or a loop that waits for it would spin; and once rounded, it is enough.
            assert now + wait > now
            now += wait
        assert log.wait(now) == 0.0
        log.take()
        log.commit(now)


# --- the limits of the bot ---

KEYS = st.sampled_from(["presence", 7, 8])
BOT_LIMITS = {"presence": (5, 20.0), 7: (1, 30.0), 8: (1, 30.0)}
BOT_STEPS = st.lists(
    st.tuples(
        (st.integers(0, 16) | st.integers(0, 240)).map(lambda eighths: eighths / 8),
        st.one_of(
            st.tuples(st.just("send"), KEYS, st.integers(1, 6), DELAYS, st.sampled_from([True, True, False])),
            st.tuples(st.just("postpone"), KEYS, st.integers(0, 400).map(lambda eighths: eighths / 8)),
        ),
    ),
    max_size=40,
)


@settings(max_examples=400)
@given(steps=BOT_STEPS)
def test_presences_and_full_lists_keep_their_limits_whatever_discord_says(steps):
    limits = BotLimits()
    left: dict[object, list[float]] = {key: [] for key in BOT_LIMITS}
    done: dict[object, list[float]] = {key: [] for key in BOT_LIMITS}
    not_before = dict.fromkeys(BOT_LIMITS, 0.0)
    under_way: list[tuple[float, object, bool]] = []
    now = 0.0

    def finish() -> None:
        for write in sorted(under_way, key=lambda write: write[0]):
            moment, key, succeeded = write
            if moment <= now:
                under_way.remove(write)
                if succeeded:
                    limits.commit(key, moment)
                    done[key].append(moment)
                else:
                    limits.give_back(key)

    def expected(key: object) -> float:
        limit, seconds = BOT_LIMITS[key]
        period, held = seconds + 0.5, sum(other == key for _, other, _ in under_way)
        soonest = max(now, not_before[key])
        for moment in sorted([soonest, *(time + period for time in done[key] if time + period > soonest)]):
            if used(done[key], moment, period) + held < limit:
                return moment
        return math.inf

    for gap, step in steps:
        now += gap
        finish()
        if step[0] == "postpone":
            _, key, seconds = step
            limits.postpone(key, now + seconds)
            not_before[key] = now + seconds
            continue
        _, key, count, delay, succeeds = step
        for _ in range(count):
            wait = limits.wait(key, now)
            assert now + wait == expected(key)
            if wait > 0.0:
                break
            assert now >= not_before[key]
            limits.take(key)
            under_way.append((now + delay, key, succeeds))
            if succeeds:
                left[key].append(now)
            finish()
    for key, (limit, seconds) in BOT_LIMITS.items():
        # The bytes may leave at any moment of the write: at its first they are furthest from the next window's start.
        assert most_in_any_window(left[key], seconds) <= limit


# --- the gateway's own window ---


@given(
    gaps=st.lists(st.floats(0.0, 5.0) | st.sampled_from([0.0, 2.0, 9.9, 9.95, 10.0]), max_size=60),
    limit=st.integers(1, 6),
)
def test_the_gateway_admits_what_is_within_the_limit_and_nothing_else(gaps, limit):
    seconds = 10.0
    window = gateway.SlidingWindow(limit, seconds)
    admitted: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap
        recent = sum(now - time < seconds - JITTER for time in admitted)
        assert window.admit(now) is (recent < limit)
        if recent < limit:
            admitted.append(now)
    assert most_in_any_window(admitted, seconds - JITTER - 1e-6) <= limit


def test_the_gateway_closes_with_the_121st_in_a_minute_and_not_before():
    judge = gateway.Judge(grace=5.0)
    judge.hello_sent(0.0, 45.0)
    beat = '{"op":1,"d":null}'
    for number in range(LIMIT):
        assert isinstance(judge.receive(beat, number / 8), gateway.Accepted)
    refused = judge.receive(beat, MINUTE - 2 * JITTER)
    assert isinstance(refused, gateway.Offence)
    assert refused.close == 4008
    assert isinstance(judge.receive(beat, MINUTE), gateway.Accepted)


def test_what_is_forgiven_is_forgotten():
    window = gateway.SlidingWindow(2, 10.0)
    assert [window.admit(1.0) for _ in range(3)] == [True, True, False]
    window.forgive()
    assert [window.admit(1.0) for _ in range(3)] == [True, True, False]
