"""A shard with a store: what one process leaves behind, and what the next one makes of it."""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

import trioshard
from tests.runtime.world import INTENTS, QUICK, open_world
from trioshard import LocalIdentifyQueue, MemoryStore, Session, SessionStartLimit, StoredSession, errors
from trioshard._store import fingerprint
from trioshard.testing import After, CloseOnIdentify, InvalidateSession, LocalGateway, Scenario, open_local_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trioshard import Shard

BOT = fingerprint("secret")
SHARD = (0, 1)


@asynccontextmanager
async def living(gateway: LocalGateway, **options: Any) -> AsyncGenerator[Shard]:
    """One life of a bot that uses this gateway."""
    options = {"intents": INTENTS, "backoff": QUICK} | options
    async with trioshard.open_shard("secret", url=gateway.url, dial=gateway.dial, **options) as shard:
        yield shard


async def take(shard: Shard, contents: list[str], count: int) -> None:
    """Take so many messages, and finish them all."""
    with shard.subscribe(trioshard.events.MessageCreate) as messages:
        async for message in messages:
            contents.append(message.content)
            if len(contents) == count:
                return


async def stored(store: MemoryStore) -> StoredSession:
    found = await store.load(BOT, SHARD)
    assert found is not None
    return found


async def test_a_restart_resumes_and_brings_what_was_missed_once(autojump_clock: MockClock) -> None:
    store, contents = MemoryStore(), list[str]()
    async with open_local_gateway(port=None, token="secret") as gateway:
        for life in range(3):
            async with living(gateway, store=store) as shard:
                await shard.wait_ready()
                gateway.send_message(f"{life}")
                await take(shard, contents, 2 * life + 1)
            gateway.send_message(f"after {life}")
        assert contents == ["0", "after 0", "1", "after 1", "2"]
        assert (gateway.report.identifies, gateway.report.resumes) == (1, 2)
        assert not gateway.report.violations


async def test_after_a_crash_the_last_seconds_come_again_and_nothing_is_missing(autojump_clock: MockClock) -> None:
    store, first, second = MemoryStore(), list[str](), list[str]()

    async def publish(gateway: LocalGateway) -> None:
        for number in range(40):
            gateway.send_message(f"{number}")
            await trio.sleep(0.5)

    async with open_local_gateway(port=None, token="secret") as gateway, trio.open_nursery() as nursery:
        async with living(gateway, store=store, save_interval=3.0) as shard:
            await shard.wait_ready()
            nursery.start_soon(publish, gateway)
            await take(shard, first, 20)
            kept = await stored(store)
        # What a process that was killed here would have left.
        await store.save(BOT, kept)
        async with living(gateway, store=store) as shard:
            async for message in shard.subscribe(trioshard.events.MessageCreate):
                second.append(message.content)
                if message.content == "39":
                    break
    assert first == [str(number) for number in range(20)]
    assert second == [str(number) for number in range(int(second[0]), 40)]
    assert 20 - 3.0 / 0.5 - 2 <= int(second[0]) <= 20
    assert gateway.report.identifies == 1


async def test_the_session_is_saved_as_soon_as_there_is_one(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_world(store=store, save_interval=1000.0) as (_, shard):
        await shard.wait_ready()
        await trio.sleep(0.1)
        assert shard.session is not None
        assert (await stored(store)).session.id == shard.session.id


async def test_a_new_session_replaces_the_stored_one_within_the_interval(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_world([After("ready"), InvalidateSession()], store=store, save_interval=2.0) as (gateway, shard):
        await gateway.wait_ready(2)
        await trio.sleep(2.1)
        assert shard.session is not None
        assert (await stored(store)).session.id == shard.session.id


@pytest.mark.parametrize("how", ["left", "failed", "cancelled"])
async def test_however_the_block_ends_the_session_is_kept(how: str, autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_local_gateway(port=None, token="secret") as gateway:
        try:
            with trio.CancelScope() as scope:
                async with living(gateway, store=store, save_interval=1000.0) as shard:
                    await shard.wait_ready()
                    gateway.send_message("one")
                    await take(shard, [], 1)
                    if how == "failed":
                        raise RuntimeError("a bug of the bot")
                    if how == "cancelled":
                        scope.cancel()
                        await trio.sleep_forever()
        except RuntimeError as exc:
            assert how == "failed"
            assert str(exc) == "a bug of the bot"
        assert gateway.report.closes_received == {4900: 1}
        assert shard.session is not None
        assert (await stored(store)).session == shard.session


async def test_a_session_that_is_too_old_is_not_tried(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_local_gateway(port=None, token="secret") as gateway:
        async with living(gateway, store=store) as shard:
            await shard.wait_ready()
        old = await stored(store)
        await store.save(BOT, msgspec.structs.replace(old, stored_at=time.time() - 901.0))
        async with living(gateway, store=store) as shard:
            await shard.wait_ready()
    assert (gateway.report.identifies, gateway.report.resumes) == (2, 0)


async def test_a_session_that_cannot_be_right_is_not_tried(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    nonsense = Session(id="x", sequence=1, resume_url="gopher://nowhere")
    await store.save(BOT, StoredSession(session=nonsense, stored_at=time.time()))
    async with open_world(store=store) as (gateway, shard):
        await shard.wait_ready()
    assert gateway.report.resumes == 0
    assert "the stored session is not tried" in caplog.text


async def test_a_session_given_by_hand_comes_before_the_stored_one(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_local_gateway(port=None, token="secret") as gateway:
        async with living(gateway, keep_session=True) as shard:
            await shard.wait_ready()
        await store.save(BOT, StoredSession(session=replace_id(shard.session), stored_at=time.time()))
        async with living(gateway, store=store, session=shard.session) as shard:
            await shard.wait_ready()
    assert (gateway.report.identifies, gateway.report.resumes) == (1, 1)


def replace_id(session: Session | None) -> Session:
    assert session is not None
    return msgspec.structs.replace(session, id="another")


async def test_a_shard_that_runs_elsewhere_is_refused_before_anything_is_sent(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_world(store=store) as (gateway, shard):
        await shard.wait_ready()
        with pytest.raises(errors.ShardClaimed) as caught:
            async with living(gateway, store=store):
                raise AssertionError
        assert caught.value.shard == SHARD
        assert gateway.report.connections == 1
        assert shard.phase is trioshard.Phase.READY


async def test_a_shard_that_was_refused_for_good_leaves_no_session(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_local_gateway(port=None, token="secret") as gateway:
        async with living(gateway, store=store) as shard:
            await shard.wait_ready()
        gateway_session = await stored(store)
    assert gateway_session.session.id
    scenario = Scenario([[CloseOnIdentify(4013)]])
    old = msgspec.structs.replace(gateway_session, stored_at=time.time() - 901.0)
    await store.save(BOT, old)
    async with open_local_gateway(port=None, token="secret", scenario=scenario) as gateway:
        with pytest.raises(errors.InvalidIntents):
            async with living(gateway, store=store):
                await trio.sleep_forever()
    assert await store.load(BOT, SHARD) is None


class Unwritable(MemoryStore):  # type: ignore[misc]  # final, but not for this test
    """Says that the disk is full, for as long as it is told to."""

    full = True
    attempts = 0

    async def save(self, bot: str, stored: StoredSession) -> None:
        self.attempts += 1
        if self.full:
            raise errors.StoreUnwritable("the disk is full")
        await super().save(bot, stored)


async def test_a_store_that_cannot_be_written_is_told_once_and_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Unwritable()
    with caplog.at_level(logging.WARNING, "trioshard"):
        async with open_world(store=store, save_interval=1.0) as (_, shard):
            await shard.wait_ready()
            await trio.sleep(10.5)
            assert store.attempts >= 10
            assert caplog.text.count("the disk is full") == 1
            store.full = False
            await trio.sleep(1.1)
            assert (await stored(store)).session.id


class Counting:
    """An identify queue that counts, and says no as often as it is told to."""

    def __init__(self, *refusals: Exception) -> None:
        self.inner = LocalIdentifyQueue()
        self.asked: list[tuple[tuple[int, int], SessionStartLimit | None]] = []
        self.refusals = list(refusals)

    @asynccontextmanager
    async def permit(self, shard: tuple[int, int], limit: SessionStartLimit | None) -> AsyncGenerator[None]:
        self.asked.append((shard, limit))
        if self.refusals:
            raise self.refusals.pop(0)
        async with self.inner.permit(shard, limit):
            yield

    def statistics(self) -> trioshard.IdentifyStatistics:
        return self.inner.statistics()


async def test_every_new_session_asks_the_queue_and_no_resume_does(autojump_clock: MockClock) -> None:
    queue = Counting()
    scripts = ([After("ready"), trioshard.testing.Reconnect()], [After("resumed"), InvalidateSession()])
    async with open_world(*scripts, identify_queue=queue) as (gateway, _):
        await gateway.wait_ready(2)
    assert [shard for shard, _ in queue.asked] == [SHARD, SHARD]
    assert gateway.report.resumes == 1


async def test_a_queue_that_refuses_ends_the_shard_and_nothing_was_sent(autojump_clock: MockClock) -> None:
    refusal = errors.SessionStartsExhausted("no more today", reset_after=60.0)
    async with open_local_gateway(port=None, token="secret") as gateway:
        with pytest.raises(errors.SessionStartsExhausted, match="no more today"):
            async with living(gateway, identify_queue=Counting(refusal)):
                await trio.sleep_forever()
    assert gateway.report.identifies == 0


async def test_a_queue_that_cannot_be_asked_is_asked_again(autojump_clock: MockClock) -> None:
    queue = Counting(errors.StoreBusy("locked"), errors.StoreBusy("locked"))
    async with open_world(identify_queue=queue) as (gateway, shard):
        await shard.wait_ready()
    assert len(queue.asked) == 3
    assert gateway.report.identifies == 1


@pytest.mark.parametrize("interval", [0.0, -1.0, float("inf"), float("nan")])
async def test_an_interval_that_makes_no_sense_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="save_interval"):
        async with trioshard.open_shard("secret", intents=0, url="ws://gateway.test", save_interval=interval):
            raise AssertionError
