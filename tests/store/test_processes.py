"""Real processes on one file: killed in the middle, side by side, in a crash loop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from trioshard._store_sqlite import SqliteStore
from trioshard.errors import ShardClaimed

from .children import BOT, session

CHILDREN = Path(__file__).with_name("children.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and forks")


@contextmanager
def child(*arguments):
    """A process that is killed when the block is left."""
    command = [sys.executable, CHILDREN, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_child(*arguments):
    with child(*arguments) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()


async def test_a_killed_process_leaves_no_torn_record_and_no_lock(tmp_path):
    path = tmp_path / "store.db"
    last = 0
    for life in range(6):
        with child("save", path) as process:
            for line in process.stdout:
                last = int(line)
                if last >= 17 * life + 3:
                    break
        with trio.fail_after(2):
            async with SqliteStore(path) as store:
                found = (await store.load(BOT, (0, 1))).session
                assert found == session(found.sequence)
                assert found.sequence >= last
                await store.forget(BOT, (0, 1))


async def test_a_claim_is_kept_by_another_process_and_vanishes_with_it(tmp_path):
    path = tmp_path / "store.db"
    async with SqliteStore(path) as store:
        with child("claim", path) as process:
            assert process.stdout.readline() == "claimed\n"
            with pytest.raises(ShardClaimed, match=f"process {process.pid} since") as caught:
                async with store.claim(BOT, (0, 1)):
                    pass
            assert caught.value.pid == process.pid
            assert abs(caught.value.since - time.time()) < 60
        async with store.claim(BOT, (0, 1)):
            pass


async def test_two_stores_of_a_process_may_open_and_close_without_losing_a_claim(tmp_path):
    """A POSIX lock is lost when any descriptor of its file is closed."""
    path = tmp_path / "store.db"
    async with SqliteStore(path) as store, store.claim(BOT, (0, 1)):
        async with SqliteStore(path) as other, other.claim(BOT, (1, 2)):
            pass
        (word, *_) = run_child("try_claim", path)
        assert word == "ShardClaimed"


async def test_the_bucket_of_a_killed_process_is_free_a_window_after_its_lease(tmp_path):
    path = tmp_path / "store.db"
    spacing, lease = 0.2, 0.5
    with child("hold", path, spacing, lease) as process:
        began = float(process.stdout.readline().split()[1])
    async with SqliteStore(path, spacing=spacing, lease=lease) as store:
        with trio.fail_after(5):
            async with store.identify_queue(BOT).permit((0, 1), None):
                entered = time.monotonic()
        assert store.identify_queue(BOT).statistics().starts_left == 998
    assert entered - began >= spacing + lease - 0.1  # "inside" was said a little after the lease began


def test_two_processes_with_two_hundred_identifies_exceed_no_window(tmp_path):
    path, spacing = tmp_path / "store.db", 0.02
    with child("identify", path, spacing, 100) as one, child("identify", path, spacing, 100) as other:
        outputs = [process.communicate(timeout=120)[0] for process in (one, other)]
    writes = [line.split() for output in outputs for line in output.splitlines()]
    assert len(writes) == 200
    for bucket in "01":
        times = sorted(float(time) for key, time in writes if key == bucket)
        assert len(times) == 100
        assert min(later - earlier for earlier, later in pairwise(times)) >= spacing
    assert all(output for output in outputs)


def test_a_crash_loop_of_three_hundred_starts_leaves_most_of_the_day(tmp_path):
    lives = [line.split() for line in run_child("crash_loop", tmp_path / "store.db", 300)]
    identified = [float(time) for word, time in lives if word == "identified"]
    assert len(lives) == 300
    most_in_a_day = max(sum(1 for time in identified if 0 <= time - begin < 86400) for begin in identified)
    assert 50 < most_in_a_day <= 150
    assert len(identified) <= 200
