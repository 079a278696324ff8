"""The budget of session starts: the numbers of its docstring, from simulated days."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioshard.errors import SessionStartsExhausted
from trioshard.protocol.starts import (
    DAY,
    LONGEST_WAIT,
    Permit,
    SessionStartLimit,
    Start,
    StartBudget,
    Told,
    concurrency,
    spacing_wait,
)

HOUR = 3600.0
IDENTIFY = 6.0
"""Seconds that a life takes at least: the spacing of identifies, and a crash right after READY."""

CONCURRENCY = 16


class Discord:
    """Counts as Discord does: from the first start on, for a day."""

    def __init__(self, total=1000):
        self.total = total
        self.began = -math.inf
        self.used = 0
        self.most_used = 0

    def start(self, now):
        if now >= self.began + DAY:
            self.began, self.used = now, 0
        self.used += 1
        self.most_used = max(self.most_used, self.used)

    def limit(self, now):
        if now >= self.began + DAY:
            return SessionStartLimit(self.total, self.total, 0, 1)
        return SessionStartLimit(self.total, self.total - self.used, round((self.began + DAY - now) * 1000), 1)


class Bot:
    """Starts its shards whenever the budget allows it."""

    def __init__(self, discord, num_shards=1, *, has_memory=True, asks=True, reserve=None):
        self.discord = discord
        self.num_shards = num_shards
        self.has_memory = has_memory
        self.asks = asks
        self.reserve = reserve
        self.now = 0.0
        self.times = []
        self.waits = []
        self.starts = []

    def live(self):
        """Start every shard once."""
        if not self.has_memory:
            self.starts = []
        for shard_id in range(self.num_shards):
            told = Told(self.discord.limit(self.now), self.now) if self.asks else None
            budget = StartBudget(self.starts, told, reserve=self.reserve)
            if budget.is_exhausted((shard_id, self.num_shards), self.now):
                raise budget.exhausted((shard_id, self.num_shards), self.now)
            wait = budget.wait((shard_id, self.num_shards), self.now)
            self.waits.append(wait)
            self.now += wait
            assert budget.wait((shard_id, self.num_shards), self.now) < 1e-6
            self.discord.start(self.now)
            self.times.append(self.now)
            if shard_id % CONCURRENCY == CONCURRENCY - 1:
                self.now += 5.5
            self.starts = [start for start in self.starts if start.at > self.now - DAY] + [Start(shard_id, self.now)]

    def crash_until(self, end):
        """Live, crash, and be started again at once."""
        while self.now < end:
            try:
                self.live()
            except SessionStartsExhausted as refusal:
                self.now += max(1.0, refusal.reset_after)
            self.now += IDENTIFY

    def most_in_a_day(self):
        return max(sum(1 for time in self.times if begin <= time < begin + DAY) for begin in self.times)


@pytest.mark.parametrize("asks", [True, False])
def test_a_crash_loop_of_one_shard_leaves_850_of_each_day(asks):
    discord = Discord()
    bot = Bot(discord, asks=asks)
    bot.crash_until(3 * DAY)
    assert len(bot.times) > 300
    assert 100 < discord.most_used <= 150
    assert bot.most_in_a_day() <= 150


@pytest.mark.parametrize(("num_shards", "most"), [(2, 160), (4, 160), (10, 390), (16, 620)])
def test_a_crash_loop_of_some_shards_leaves_a_good_part_of_the_day(num_shards, most):
    discord = Discord()
    Bot(discord, num_shards).crash_until(2 * DAY)
    assert discord.most_used <= most


@pytest.mark.parametrize(("num_shards", "total"), [(1, 1000), (16, 1000), (100, 1000), (600, 2000), (3, 20)])
@pytest.mark.parametrize("has_memory", [True, False])
def test_no_crash_loop_takes_the_last_starts(num_shards, total, has_memory):
    discord = Discord(total)
    Bot(discord, num_shards, has_memory=has_memory).crash_until(1.5 * DAY)
    reserve = StartBudget((), Told(discord.limit(0.0), 0.0)).reserve(num_shards)
    assert reserve > 0
    assert discord.total - discord.most_used >= reserve


def test_the_reserve_starts_every_shard_once_more():
    discord = Discord()
    for _ in range(950):
        discord.start(0.0)
    with pytest.raises(SessionStartsExhausted):
        Bot(discord, 40).live()
    mended = Bot(discord, 40, reserve=0)
    mended.live()
    assert len(mended.times) == 40
    assert set(mended.waits) == {0.0}


def test_twenty_restarts_in_an_hour_never_wait():
    bot = Bot(Discord())
    while len(bot.times) < 20:
        bot.live()
        bot.now += 170.0
    assert bot.now < HOUR
    assert set(bot.waits) == {0.0}


def test_the_twenty_first_restart_in_a_row_waits_a_few_seconds():
    bot = Bot(Discord())
    for _ in range(21):
        bot.live()
    assert bot.waits[:20] == [0.0] * 20
    assert 0.0 < bot.waits[20] <= 5.0


@pytest.mark.parametrize(("num_shards", "total"), [(1, 1000), (64, 1000), (900, 1000), (1500, 2000)])
def test_the_first_start_of_all_shards_never_waits(num_shards, total):
    bot = Bot(Discord(total), num_shards)
    bot.live()
    assert set(bot.waits) == {0.0}
    assert len(bot.times) == num_shards


def test_a_quiet_shard_need_not_wait_for_a_wild_one():
    now = 1000.0
    starts = [Start(0, now - 900.0 + 20 * number) for number in range(46)]
    budget = StartBudget(starts, None)
    assert budget.wait((0, 2), now) > 60.0
    assert budget.wait((1, 2), now) == 0.0


def test_the_rest_is_stretched_until_the_reset():
    waits = []
    for remaining in (600, 400, 200, 50):
        told = Told(SessionStartLimit(1000, remaining, 12 * 3_600_000, 1), 0.0)
        waits.append(StartBudget([], told).wait((0, 1), 0.0))
    assert waits[0] == 0.0
    assert 0.0 < waits[1] < waits[2] < waits[3] <= LONGEST_WAIT


def test_no_wait_is_longer_than_an_hour():
    starts = [Start(0, 0.001 * number) for number in range(989 - 20)]
    assert StartBudget(starts, None, reserve=0).wait((0, 900), 1.0) == pytest.approx(LONGEST_WAIT, abs=1.0)


def test_what_is_left_is_the_smaller_of_two_counts():
    day_ago, now = 0.0, DAY
    limit = SessionStartLimit(1000, 700, 3_600_000, 1)
    ours = [Start(0, now - 10_000.0 + number) for number in range(40)]
    since = [Start(0, now + 60.0), Start(1, now + 61.0)]
    assert StartBudget(ours, Told(limit, now)).left(now) == 700
    assert StartBudget([*ours, *since], Told(limit, now)).left(now + 62.0) == 698
    optimistic = SessionStartLimit(1000, 999, 3_600_000, 1)
    assert StartBudget(ours, Told(optimistic, now)).left(now) == 960
    before_the_window = [Start(0, day_ago + 60.0 + number) for number in range(30)]
    assert StartBudget(before_the_window, Told(optimistic, now)).left(now) == 999


def test_a_start_that_discord_may_not_have_counted_yet_is_counted():
    untouched = Told(SessionStartLimit(1000, 1000, 0, 1), 100.0)
    assert StartBudget([Start(0, 99.0)], untouched).left(100.0) == 999
    begun = Told(SessionStartLimit(1000, 999, 86_399_000, 1), 100.0)
    assert StartBudget([Start(0, 90.0), Start(0, 99.0)], begun).left(100.0) == 998


def test_after_the_reset_only_what_was_started_since_counts():
    told = Told(SessionStartLimit(1000, 100, 60_000, 1), 0.0)
    starts = [Start(0, 10.0), Start(0, 200.0)]
    assert StartBudget(starts, told).left(50.0) == 98
    assert StartBudget(starts, told).left(300.0) == 999
    assert StartBudget(starts, told).resets_at(300.0) == 200.0 + DAY


def test_a_refusal_tells_what_is_left_and_when_it_resets():
    budget = StartBudget([], Told(SessionStartLimit(1000, 5, 7_200_000, 1), 100.0))
    refusal = budget.exhausted((0, 1), 200.0, wall_offset=1_000_000.0)
    assert (refusal.left, refusal.reset_after, refusal.shard) == (5, 7100.0, (0, 1))
    assert refusal.resets_at == 1_007_300.0
    assert "5 of 1000" in str(refusal)
    assert "reserve=0" in str(refusal)
    assert "7100 s" in str(refusal)


LIMITS = st.builds(
    SessionStartLimit,
    total=st.integers(-5, 3000),
    remaining=st.integers(-5, 3000),
    reset_after=st.integers(-(10**9), 10**12),
    max_concurrency=st.integers(-2, 200),
)


@given(
    limit=st.none() | LIMITS,
    told_ago=st.floats(0, 3 * DAY),
    ages=st.lists(st.floats(0, DAY), max_size=60),
    num_shards=st.integers(1, 2000),
)
def test_whatever_discord_says_the_answers_make_sense(limit, told_ago, ages, num_shards):
    now = 10 * DAY
    told = None if limit is None else Told(limit, now - told_ago)
    budget = StartBudget([Start(0, now - age) for age in ages], told)
    left = budget.left(now)
    assert left >= 0
    assert 0.0 <= budget.wait((0, num_shards), now) <= LONGEST_WAIT
    assert now <= budget.resets_at(now) <= now + DAY
    assert budget.after(Start(0, now)).left(now) in {left - 1, 0}
    assert concurrency(limit) >= 1


# spacing


def test_a_bucket_is_busy_from_the_permit_to_a_window_after_the_write():
    assert spacing_wait([Permit(0, 2)], 2, 2, 100.0, spacing=5.5) == math.inf
    assert spacing_wait([Permit(0, 2)], 1, 2, 100.0, spacing=5.5) == 0.0
    assert spacing_wait([Permit(0, 2, 98.0), Permit(4, 2, 99.0)], 2, 2, 100.0, spacing=5.5) == 4.5
    assert spacing_wait([Permit(0, 2, 94.5)], 2, 2, 100.0, spacing=5.5) == 0.0


@pytest.mark.parametrize(("before", "after"), [(16, 1), (1, 16)])
def test_while_the_concurrency_changes_the_narrower_reading_counts(before, after):
    assert spacing_wait([Permit(0, before, 99.0)], 1, after, 100.0, spacing=5.5) == 4.5
