"""Our stores and queues pass the checks that we ship, and stores that are broken on purpose do not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
import trio

from trioshard._identify_queue import LocalIdentifyQueue
from trioshard._store import MemoryStore
from trioshard._store_sqlite import SqliteStore
from trioshard.errors import ShardClaimed
from trioshard.protocol.starts import SessionStartLimit
from trioshard.protocol.stored import StoredSession
from trioshard.testing import conformance
from trioshard.testing.conformance import QUEUE_CHECKS, STORE_CHECKS, Nonconformance


def opens_sqlite_store(tmp_path):
    return lambda: SqliteStore(tmp_path / "store.db")


def opens_sqlite_queue(tmp_path):
    @asynccontextmanager
    async def open_queue(bot, spacing):
        async with SqliteStore(tmp_path / "store.db", spacing=spacing) as store:
            yield store.identify_queue(bot)

    return open_queue


def opens_the_same(make):
    """What lives in one process is opened once, and seen by all."""
    made = {}

    @asynccontextmanager
    async def open_it(*arguments):
        if arguments not in made:
            made[arguments] = make(*arguments)
        yield made[arguments]

    return open_it


@pytest.mark.parametrize("check", STORE_CHECKS)
async def test_the_store_in_memory_conforms(check, autojump_clock):
    await check(opens_the_same(MemoryStore))


@pytest.mark.parametrize("check", STORE_CHECKS)
async def test_the_sqlite_store_conforms(check, tmp_path):
    await check(opens_sqlite_store(tmp_path))


@pytest.mark.parametrize("check", QUEUE_CHECKS)
async def test_the_queue_in_memory_conforms(check, autojump_clock):
    await check(opens_the_same(lambda bot, spacing: LocalIdentifyQueue(spacing=spacing)))


@pytest.mark.parametrize("check", QUEUE_CHECKS)
async def test_the_sqlite_queue_conforms(check, tmp_path):
    await check(opens_sqlite_queue(tmp_path))


# --- broken on purpose ---


class BrokenStore:
    """A `MemoryStore`, until a subclass breaks it."""

    def __init__(self):
        self.sound = MemoryStore()

    def __getattr__(self, name):
        return getattr(self.sound, name)


class InventsRecords(BrokenStore):
    async def load(self, bot, shard):
        return await self.sound.load(bot, shard) or conformance._stored(5, shard)


class LosesFields(BrokenStore):
    async def save(self, bot, stored):
        await self.sound.save(bot, msgspec.structs.replace(stored, stored_at=float(int(stored.stored_at))))


class KeepsTheFirst(BrokenStore):
    async def save(self, bot, stored):
        if await self.sound.load(bot, stored.session.shard) is None:
            await self.sound.save(bot, stored)


class RemembersForEver(BrokenStore):
    async def forget(self, bot, shard):
        await trio.lowlevel.checkpoint()


class GluesKeysTogether(BrokenStore):
    def __init__(self):
        super().__init__()
        self.records = {}

    async def save(self, bot, stored):
        self.records[f"{bot}{stored.session.shard[0]}{stored.session.shard[1]}"] = stored

    async def load(self, bot, shard):
        return self.records.get(f"{bot}{shard[0]}{shard[1]}")

    async def forget(self, bot, shard):
        self.records.pop(f"{bot}{shard[0]}{shard[1]}", None)


class TearsRecords(BrokenStore):
    async def save(self, bot, stored):
        session = stored.session
        await self.sound.save(bot, StoredSession(session=session.at(-1), stored_at=stored.stored_at))
        await trio.sleep(0.001)
        await self.sound.save(bot, stored)


class OverwritesOthers(BrokenStore):
    """Reads all, awaits, writes all."""

    def __init__(self):
        super().__init__()
        self.records = {}

    async def save(self, bot, stored):
        records = dict(self.records)
        await trio.sleep(0.001)
        self.records = records | {(bot, stored.session.shard): stored}

    async def load(self, bot, shard):
        return self.records.get((bot, shard))


class ClaimsNothing(BrokenStore):
    @asynccontextmanager
    async def claim(self, bot, shard):
        yield


class NeverFreesAClaim(BrokenStore):
    def __init__(self):
        super().__init__()
        self.claimed = set()

    @asynccontextmanager
    async def claim(self, bot, shard):
        if (bot, shard) in self.claimed:
            raise ShardClaimed("claimed", shard=shard)
        self.claimed.add((bot, shard))
        yield


class MakesQueuesAnew(BrokenStore):
    def identify_queue(self, bot):
        return LocalIdentifyQueue()


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (InventsRecords, conformance.nothing_is_kept_of_a_new_bot),
        (LosesFields, conformance.what_was_saved_is_loaded),
        (KeepsTheFirst, conformance.the_last_save_counts),
        (RemembersForEver, conformance.what_is_forgotten_is_gone),
        (GluesKeysTogether, conformance.records_are_kept_apart),
        (TearsRecords, conformance.a_cancelled_save_is_whole_or_did_not_happen),
        (OverwritesOthers, conformance.many_may_save_at_once),
        (ClaimsNothing, conformance.a_shard_is_claimed_once),
        (NeverFreesAClaim, conformance.a_claim_ends_with_its_block),
        (MakesQueuesAnew, conformance.a_bot_has_one_queue),
    ],
)
async def test_a_store_that_is_broken_on_purpose_does_not_conform(broken, check, autojump_clock):
    with pytest.raises((Nonconformance, ShardClaimed)):
        await check(opens_the_same(broken))


class BrokenQueue:
    """A `LocalIdentifyQueue`, until a subclass breaks it."""

    def __init__(self, spacing):
        self.sound = LocalIdentifyQueue(spacing=spacing)
        self.spacing = spacing

    def permit(self, shard, limit):
        return self.sound.permit(shard, limit)

    def statistics(self):
        return self.sound.statistics()


class CountsFromTheBeginning(BrokenQueue):
    """The window begins when the permit is given, not when the write has ended."""

    @asynccontextmanager
    async def permit(self, shard, limit):
        async with self.sound.permit(shard, limit):
            pass
        yield


class TakesAllForOneBucket(BrokenQueue):
    def permit(self, shard, limit):
        return self.sound.permit((0, 1), limit and msgspec.structs.replace(limit, max_concurrency=1))


class TakesTheUnknownForWide(BrokenQueue):
    def permit(self, shard, limit):
        return self.sound.permit(shard, limit or SessionStartLimit(max_concurrency=16))


class BelievesTheLatest(BrokenQueue):
    """Each reading of ``max_concurrency`` has its own buckets."""

    def __init__(self, spacing):
        super().__init__(spacing)
        self.queues = {}

    def permit(self, shard, limit):
        queue = self.queues.setdefault(limit.max_concurrency, LocalIdentifyQueue(spacing=self.spacing))
        return queue.permit(shard, limit)


class ServesTheLastFirst(BrokenQueue):
    """A pile."""

    def __init__(self, spacing):
        super().__init__(spacing)
        self.pile = []
        self.busy = False

    @asynccontextmanager
    async def permit(self, shard, limit):
        if self.busy:
            turn = trio.Event()
            self.pile.append((shard[0], turn))
            await turn.wait()
        self.busy = True
        async with self.sound.permit(shard, limit):
            yield
        self.busy = False
        if self.pile:
            self.pile.pop()[1].set()

    def statistics(self):
        waiting = tuple(shard_id for shard_id, _ in self.pile)
        return replace(self.sound.statistics(), waiting=waiting, buckets=(0,) if waiting else ())


class CountsWhoAsks(BrokenQueue):
    asked = 0

    def permit(self, shard, limit):
        self.asked += 1
        return self.sound.permit(shard, limit)

    def statistics(self):
        return replace(self.sound.statistics(), starts_left=900 - self.asked)


class ForgivesFailures(BrokenQueue):
    """Who failed gets the start back."""

    forgiven = 0

    @asynccontextmanager
    async def permit(self, shard, limit):
        async with self.sound.permit(shard, limit):
            try:
                yield
            except BaseException:
                self.forgiven += 1
                raise

    def statistics(self):
        statistics = self.sound.statistics()
        return replace(statistics, starts_left=statistics.starts_left + self.forgiven)


class TakesRepetitionForNews(BrokenQueue):
    def statistics(self):
        return replace(self.sound.statistics(), starts_left=899)


class StartsWithNothingLeft(BrokenQueue):
    def permit(self, shard, limit):
        return self.sound.permit(shard, limit and msgspec.structs.replace(limit, remaining=900))


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (CountsFromTheBeginning, conformance.the_next_of_a_bucket_waits),
        (CountsFromTheBeginning, conformance.nobody_enters_while_a_bucket_is_written),
        (TakesAllForOneBucket, conformance.buckets_do_not_wait_for_each_other),
        (TakesTheUnknownForWide, conformance.an_unknown_limit_means_one_bucket),
        (BelievesTheLatest, conformance.a_changed_concurrency_is_read_carefully),
        (ServesTheLastFirst, conformance.who_asks_first_goes_first),
        (CountsWhoAsks, conformance.who_is_cancelled_holds_up_nobody),
        (ForgivesFailures, conformance.what_was_entered_is_spent),
        (TakesRepetitionForNews, conformance.everybody_counts_the_same_starts),
        (StartsWithNothingLeft, conformance.nothing_is_started_when_nothing_is_left),
    ],
)
async def test_a_queue_that_is_broken_on_purpose_does_not_conform(broken, check, autojump_clock):
    with pytest.raises((Nonconformance, trio.TooSlowError)):
        await check(opens_the_same(lambda bot, spacing: broken(spacing)))
