"""Files that are damaged, foreign, newer, read-only, full, locked, moved; and clocks that jump."""

from __future__ import annotations

import logging
import sqlite3
import sys
import time

import pytest
import trio

from trioshard._store import fingerprint
from trioshard._store_sqlite import SqliteStore
from trioshard.errors import StoreBusy, StoreUnreadable, StoreUnwritable
from trioshard.protocol.starts import DAY, SessionStartLimit
from trioshard.protocol.stored import StoredSession

from .children import BOT, session
from .test_processes import run_child

STORED = StoredSession(session=session(7), stored_at=1_800_000_000.0)


async def fill(path):
    async with SqliteStore(path) as store:
        await store.save(BOT, STORED)


async def loaded(path):
    async with SqliteStore(path) as store:
        return await store.load(BOT, (0, 1))


def names(tmp_path):
    return {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kept", [4096, 5000, 10_000])
async def test_a_truncated_file_is_set_aside_and_the_log_says_so(kept, tmp_path, caplog):
    path = tmp_path / "store.db"
    await fill(path)
    damaged = path.read_bytes()[:kept]
    path.write_bytes(damaged)
    assert await loaded(path) is None
    (aside,) = tmp_path.glob("store.db.broken-*")
    assert aside.read_bytes() == damaged
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert aside.name in record.getMessage()
    await fill(path)
    assert await loaded(path) == STORED


async def test_damage_that_is_found_while_running_is_set_aside_too(tmp_path):
    path = tmp_path / "store.db"
    async with SqliteStore(path) as store:
        await store.save(BOT, STORED)
        with sqlite3.connect(path) as vandal:
            vandal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        vandal.close()
        with path.open("r+b") as file:
            file.seek(1024)
            file.write(b"\xff" * 100_000)
        async with SqliteStore(path) as other:
            await other.save(BOT, STORED)
        assert await store.load(BOT, (0, 1)) == STORED
        assert len(list(tmp_path.glob("store.db.broken-*Z"))) == 1


@pytest.mark.parametrize("content", [b"x", b"{}" * 3000, b"SQLite format 3\0" + b"\xff" * 5000], ids=len)
async def test_a_file_that_is_no_database_is_left_alone(content, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"notes\.txt is not a store of trioshard"):
        await loaded(path)
    assert path.read_bytes() == content
    assert names(tmp_path) == {"notes.txt", "notes.txt.lock"}


async def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE sessions (bot, shard_id, num_shards, session, stored_at)")
    shop.close()
    content = path.read_bytes()
    with pytest.raises(StoreUnreadable, match="is not a store of trioshard"):
        await loaded(path)
    assert path.read_bytes() == content


async def test_a_store_of_a_newer_release_is_left_alone(tmp_path):
    path = tmp_path / "store.db"
    await fill(path)
    with sqlite3.connect(path) as future:
        future.execute("PRAGMA user_version=2")
    future.close()
    with pytest.raises(StoreUnreadable, match="newer trioshard"):
        await loaded(path)
    assert not list(tmp_path.glob("*.broken-*"))


async def test_an_empty_file_becomes_a_store(tmp_path):
    path = tmp_path / "store.db"
    path.touch()
    await fill(path)
    assert await loaded(path) == STORED


async def test_a_file_that_is_deleted_while_in_use_is_begun_anew(tmp_path):
    path = tmp_path / "store.db"
    async with SqliteStore(path) as store:
        await store.save(BOT, STORED)
        for part in tmp_path.glob("store.db*"):
            part.unlink()
        assert await store.load(BOT, (0, 1)) is None
        await store.save(BOT, STORED)
        assert await loaded(path) == STORED


async def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreUnwritable, match="nowhere"):
        await loaded(tmp_path / "nowhere" / "store.db")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("readonly", ["file", "directory"])
async def test_a_store_that_is_read_only_says_what_to_do(readonly, tmp_path):
    directory = tmp_path / "data"
    directory.mkdir(mode=0o777)
    path = directory / "store.db"
    await fill(path)
    for part in (tmp_path, *tmp_path.parents[:-3]):
        part.chmod(part.stat().st_mode | 0o055)
    directory.chmod(0o777 if readonly == "file" else 0o555)
    path.chmod(0o444 if readonly == "file" else 0o666)
    (directory / "store.db.lock").chmod(0o666 if readonly == "file" else 0o444)
    (line,) = run_child("save_as_nobody", path)
    assert line.startswith("StoreUnwritable the store")
    assert "have to be writable" in line
    assert await loaded(path) == STORED


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
async def test_a_full_disk_costs_the_save_and_not_the_store(tmp_path):
    path = tmp_path / "store.db"
    refusal, readable = run_child("save_on_a_full_disk", path, 200_000)
    number, kind, *_ = refusal.split()
    assert int(number) > 10
    assert kind == "StoreUnwritable"
    assert readable == "still readable"
    await fill(path)
    assert await loaded(path) == STORED


async def test_a_lock_that_does_not_go_away_is_reported_and_can_be_cancelled(tmp_path):
    path = tmp_path / "store.db"
    async with SqliteStore(path, patience=0.3) as store, SqliteStore(path, patience=60.0) as patient:
        await store.save(BOT, STORED)
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match=r"locked by another process for 0\.3 s"):
            await store.forget(BOT, (0, 1))
        began = time.monotonic()
        with trio.move_on_after(0.1) as scope:
            await patient.forget(BOT, (0, 1))
        assert scope.cancelled_caught
        assert time.monotonic() - began < 5.0
        locker.execute("ROLLBACK")
        locker.close()
        assert await store.load(BOT, (0, 1)) == STORED


async def test_a_closed_store_says_so(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    await store.save(BOT, STORED)
    await store.aclose()
    await store.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await store.load(BOT, (0, 1))


async def test_a_record_that_makes_no_sense_is_not_tried(tmp_path, caplog):
    path = tmp_path / "store.db"
    await fill(path)
    with sqlite3.connect(path) as vandal:
        vandal.execute("UPDATE sessions SET session = ?", (b'{"id": 5}',))
    vandal.close()
    assert await loaded(path) is None
    assert "makes no sense" in caplog.text


async def test_sessions_that_nobody_can_resume_any_more_do_not_pile_up(tmp_path):
    path = tmp_path / "store.db"
    await fill(path)
    async with SqliteStore(path) as store:
        later = StoredSession(session=session(8), stored_at=STORED.stored_at + DAY)
        await store.save("another bot", later)
        assert await store.load(BOT, (0, 1)) is None
        assert await store.load("another bot", (0, 1)) == later


def test_a_fingerprint_tells_tokens_apart_and_shows_nothing_of_them():
    token = "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs"
    assert fingerprint(token) == fingerprint(f" {token}\n")
    assert len(fingerprint(token)) == 16
    assert not any(part in fingerprint(token) for part in token.split("."))
    assert fingerprint(token) != fingerprint(token[:-1])


# clocks


class Clocks:
    """The two clocks of a store, in the hands of a test."""

    def __init__(self):
        self.wall = 1_800_000_000.0
        self.monotonic = 5_000.0

    def store(self, path, **settings):
        return SqliteStore(path, wall_clock=lambda: self.wall, clock=lambda: self.monotonic, **settings)

    def advance(self, seconds):
        self.wall += seconds
        self.monotonic += seconds


async def wait_of(store, shard=(0, 1), limit=None):
    """Seconds for which a permit would have to wait; it is not taken if it had to."""
    queue = store.identify_queue(BOT)
    waits = []

    async def ask():
        async with queue.permit(shard, limit):
            waits.append(0.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while not waits:
            if queue.statistics().next_permit is not None:
                waits.append(queue.statistics().next_permit)
                nursery.cancel_scope.cancel()
            await trio.sleep(0.001)
    return waits[0]


@pytest.mark.parametrize("jump", [-10 * DAY, -3600.0, 3600.0, 400 * DAY])
async def test_a_wall_clock_that_jumps_neither_shortens_a_window_nor_blocks(jump, tmp_path):
    clocks = Clocks()
    async with clocks.store(tmp_path / "store.db") as store:
        assert await wait_of(store) == 0.0
        clocks.wall += jump
        clocks.advance(1.5)
        assert await wait_of(store) == pytest.approx(4.0, abs=0.5)
        clocks.advance(4.1)
        assert await wait_of(store) == 0.0


async def test_a_reboot_neither_shortens_a_window_nor_blocks(tmp_path):
    clocks = Clocks()
    async with clocks.store(tmp_path / "store.db") as store:
        assert await wait_of(store) == 0.0
    clocks.monotonic = 3.0
    async with clocks.store(tmp_path / "store.db") as store:
        assert await wait_of(store) == pytest.approx(5.5, abs=0.5)
        clocks.advance(5.6)
        assert await wait_of(store) == 0.0


async def test_starts_are_remembered_over_restarts_and_slow_down_what_repeats_them(tmp_path):
    clocks = Clocks()
    waits = []
    for _ in range(40):
        async with clocks.store(tmp_path / "store.db") as store:
            waits.append(await wait_of(store))
            clocks.advance(max(5.6, waits[-1] + 1.0))
            left = store.identify_queue(BOT).statistics().starts_left
    assert waits[:20] == [0.0] * 20
    assert left == 1000 - waits.count(0.0)
    assert max(waits) > 20.0


async def test_starts_of_a_wrong_future_do_not_block_when_the_clock_is_mended(tmp_path):
    clocks = Clocks()
    clocks.wall += 1000 * DAY
    async with clocks.store(tmp_path / "store.db") as store:
        for _ in range(25):
            clocks.advance(max(5.6, await wait_of(store) + 1.0))
        clocks.wall -= 1000 * DAY
        clocks.advance(60.0)
        assert await wait_of(store) <= 20.0
        clocks.advance(25 * 3600.0)
        assert await wait_of(store) == 0.0
        assert store.identify_queue(BOT).statistics().starts_left >= 999


async def test_the_newest_word_of_discord_counts_whoever_heard_it(tmp_path):
    clocks = Clocks()
    path = tmp_path / "store.db"
    old = SessionStartLimit(1000, 990, 3_600_000, 1)
    new = SessionStartLimit(1000, 800, 3_500_000, 1)
    async with clocks.store(path) as one, clocks.store(path) as other:
        assert await wait_of(one, limit=old) == 0.0
        clocks.advance(10.0)
        assert await wait_of(other, limit=new) == 0.0
        clocks.advance(10.0)
        assert await wait_of(one, limit=old) == 0.0
        assert one.identify_queue(BOT).statistics().starts_left == 798
