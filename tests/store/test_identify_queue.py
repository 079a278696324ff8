"""The queue of one process, in virtual time."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest
import trio

from trioshard._identify_queue import LocalIdentifyQueue
from trioshard._store_sqlite import SqliteStore
from trioshard.errors import SessionStartsExhausted
from trioshard.protocol.starts import SessionStartLimit


def limit(max_concurrency=1, *, total=1000, remaining=None):
    remaining = total if remaining is None else remaining
    return SessionStartLimit(total, remaining, 3_600_000, max_concurrency)


async def start_all(queue, num_shards, what, *, write=0.0):
    """Start every shard at once; return when each Identify was written."""
    written = []

    async def start(shard_id):
        async with queue.permit((shard_id, num_shards), what):
            await trio.sleep(write)
            written.append((trio.current_time(), shard_id))

    async with trio.open_nursery() as nursery:
        for shard_id in range(num_shards):
            nursery.start_soon(start, shard_id)
    return written


async def test_shards_start_in_groups_of_the_concurrency(autojump_clock):
    began = trio.current_time()
    written = await start_all(LocalIdentifyQueue(), 64, limit(16))
    groups = Counter(round((time - began) / 5.5, 6) for time, _ in written)
    assert groups == {0.0: 16, 1.0: 16, 2.0: 16, 3.0: 16}


async def test_a_slow_write_begins_its_window_when_it_ends(autojump_clock):
    began = trio.current_time()
    written = await start_all(LocalIdentifyQueue(), 3, limit(), write=2.0)
    assert [time - began for time, _ in sorted(written)] == pytest.approx([2.0, 9.5, 17.0])


async def test_a_thousand_shards_that_ask_at_once_cost_no_cpu_to_speak_of(autojump_clock):
    began, processor = trio.current_time(), time.process_time()
    written = await start_all(LocalIdentifyQueue(reserve=0), 900, limit())
    assert trio.current_time() - began == pytest.approx(899 * 5.5)
    assert len(written) == 900
    assert time.process_time() - processor < 20.0


async def test_a_shard_that_is_slowed_down_holds_up_nobody(autojump_clock, caplog):
    queue = LocalIdentifyQueue()
    for _ in range(45):
        async with queue.permit((0, 2), limit()):
            pass
    began = trio.current_time()
    times = {}

    async def start(shard_id):
        async with queue.permit((shard_id, 2), limit()):
            times[shard_id] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start, 0)
        await trio.sleep(1.0)
        assert queue.statistics().waiting == (0,)
        assert queue.statistics().next_permit > 60.0
        nursery.start_soon(start, 1)
    assert times[1] <= 5.5
    assert times[0] > 60.0
    assert "shard 0 of 2: sessions were started too often" in caplog.text


async def test_a_queue_without_guard_only_keeps_the_distance(autojump_clock):
    queue = LocalIdentifyQueue(guard=False)
    began = trio.current_time()
    for _ in range(100):
        async with queue.permit((0, 1), limit(remaining=0)):
            pass
    assert trio.current_time() - began == pytest.approx(99 * 5.5)


@pytest.mark.parametrize(("reserve", "admitted"), [(None, False), (0, True), (5, False), (4, True)])
async def test_the_reserve_is_refused_unless_it_is_asked_for(reserve, admitted, autojump_clock):
    queue = LocalIdentifyQueue(reserve=reserve)
    started = False
    try:
        async with queue.permit((0, 1), limit(remaining=5)):
            started = True
    except SessionStartsExhausted as refusal:
        assert refusal.left == 5
        assert refusal.reset_after == pytest.approx(3600.0)
        assert abs(refusal.resets_at - time.time() - 3600.0) < 60.0
    assert started is admitted


async def test_a_wait_for_the_pace_is_logged_once(autojump_clock, caplog):
    queue = LocalIdentifyQueue()
    for _ in range(40):
        async with queue.permit((0, 1), None):
            pass
    caplog.clear()
    async with queue.permit((0, 1), None):
        pass
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("settings", [{"spacing": 0.0}, {"spacing": float("inf")}, {"reserve": -1}])
def test_settings_that_make_no_sense_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r"spacing|reserve"):
        LocalIdentifyQueue(**settings)
    with pytest.raises(ValueError, match=r"spacing|reserve"):
        SqliteStore(tmp_path / "store.db", **settings)


@pytest.mark.parametrize("name", ["lease", "patience"])
def test_times_that_make_no_sense_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=name):
        SqliteStore(tmp_path / "store.db", **{name: -1.0})
