"""Outboxes: bounds, policies, who waits for whom, and which sequence counts as processed."""

from __future__ import annotations

import gc
import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.runtime.world import open_world
from trioshard import Shard, errors, events
from trioshard._subscription import DEFAULT_CAPACITY, Hub
from trioshard.protocol.events import Dispatch
from trioshard.testing import After, Drop, LocalGateway, Reconnect, Sleep


def numbered(gateway: LocalGateway, *numbers: int) -> None:
    for number in numbers:
        gateway.publish("NUMBERED", {"n": number})


async def take(shard: Shard, count: int) -> list[int]:
    taken: list[int] = []
    async for event in shard.subscribe("NUMBERED"):
        taken.append(event.json()["n"])
        if len(taken) == count:
            break
    return taken


async def test_the_first_subscriber_sees_everything_from_ready_on(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, 1, 2)
        await trio.sleep(60)
        names: list[str] = []
        async for event in shard.subscribe():
            names.append(event.name)
            if len(names) == 4:
                break
        assert names == ["READY", "GUILD_CREATE", "NUMBERED", "NUMBERED"]


async def test_a_later_subscriber_sees_what_comes_from_then_on(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        first = shard.subscribe("NUMBERED")
        await shard.wait_ready()
        numbered(gateway, 1)
        await anext(first)
        second = shard.subscribe("NUMBERED")
        numbered(gateway, 2)
        assert (await anext(first)).json() == (await anext(second)).json() == {"n": 2}


async def test_without_a_subscriber_the_backlog_pushes_back_and_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="trioshard")
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, *range(DEFAULT_CAPACITY + 500))
        await trio.sleep(300)
        assert shard.statistics().outboxes == (DEFAULT_CAPACITY,)
        assert "wait for a first subscriber" in caplog.text
        assert gateway.report.connections == 1, "our own slowness is no verdict on the peer"
        assert await take(shard, DEFAULT_CAPACITY + 500) == list(range(DEFAULT_CAPACITY + 500))


async def test_a_shard_for_sending_only_keeps_nothing(autojump_clock: MockClock) -> None:
    async with open_world(events=False) as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, *range(3000))
        await trio.sleep(60)
        assert shard.statistics().outboxes == ()
        assert shard.statistics().sequence_received == 3002
        await shard.update_presence(status="idle")


async def test_a_slow_subscriber_holds_the_reader_back_and_heartbeats_go_on(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("NUMBERED", capacity=5)
        await shard.wait_ready()
        numbered(gateway, *range(200))
        await trio.sleep(600)
        assert len(shard.statistics().outboxes) == 1
        assert subscription.waiting == 5
        assert gateway.report.heartbeats >= 14
        assert gateway.report.connections == 1
        assert [(await anext(subscription)).json()["n"] for _ in range(200)] == list(range(200))


async def test_drop_oldest_counts_what_it_drops(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("NUMBERED", capacity=5, overflow="drop_oldest")
        await shard.wait_ready()
        numbered(gateway, *range(20))
        await trio.sleep(1)
        assert [(await anext(subscription)).json()["n"] for _ in range(5)] == [15, 16, 17, 18, 19]
        assert subscription.dropped == shard.statistics().events_dropped == 15
        subscription.close()
        assert shard.statistics().events_dropped == 15


async def test_fail_ends_the_subscription_and_nothing_else(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        failing = shard.subscribe("NUMBERED", capacity=5, overflow="fail")
        other = shard.subscribe("NUMBERED")
        await shard.wait_ready()
        numbered(gateway, *range(20))
        await trio.sleep(1)
        assert [(await anext(failing)).json()["n"] for _ in range(5)] == [0, 1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(errors.SubscriptionOverflow, match="5 events behind"):
                await anext(failing)
        assert [(await anext(other)).json()["n"] for _ in range(20)] == list(range(20))


async def test_a_loop_that_is_left_does_not_hold_the_shard_up(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        async for _ in shard.subscribe("NUMBERED", "READY", capacity=1):
            break
        gc.collect()
        numbered(gateway, *range(50))
        await trio.sleep(1)
        assert shard.statistics().outboxes == ()
        assert shard.statistics().sequence_received == 52


async def test_a_closed_subscription_ends_its_iteration_and_frees_the_reader(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        with shard.subscribe("NUMBERED", capacity=1) as subscription:
            await shard.wait_ready()
            numbered(gateway, *range(50))
            await trio.sleep(1)
            assert (await anext(subscription)).json() == {"n": 0}
        assert [event async for event in subscription] == []
        await trio.sleep(1)
        assert shard.statistics().sequence_received == 52


async def test_a_cancelled_subscriber_loses_no_event(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("NUMBERED")
        await shard.wait_ready()
        with trio.move_on_after(1) as scope:
            await anext(subscription)
        assert scope.cancelled_caught
        numbered(gateway, 7)
        assert (await anext(subscription)).json() == {"n": 7}


async def test_several_tasks_share_one_subscription(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("NUMBERED")
        await shard.wait_ready()
        seen: list[int] = []

        async def work() -> None:
            async for event in subscription:
                seen.append(event.json()["n"])
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work)
            numbered(gateway, *range(20))
            await trio.sleep(10)
            assert sorted(seen) == list(range(20))
            nursery.cancel_scope.cancel()


async def test_what_is_there_is_drained_but_not_without_end(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, *range(300))
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            taken = 0
            async for _ in shard.subscribe("NUMBERED"):
                taken += 1
        assert taken == 64


async def test_an_event_that_does_not_fit_its_type_is_skipped_loudly(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe(events.MessageCreate)
        await shard.wait_ready()
        gateway.publish("MESSAGE_CREATE", {"id": "not a number"})
        gateway.send_message("whole")
        assert (await anext(subscription)).content == "whole"
        assert shard.statistics().events_undecodable == 1
        assert "MESSAGE_CREATE does not fit MessageCreate" in caplog.text


async def test_an_event_is_decoded_once_for_all_who_ask(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        first, second = shard.subscribe(events.MessageCreate), shard.subscribe(events.MessageCreate)
        await shard.wait_ready()
        gateway.send_message("x")
        assert await anext(first) is await anext(second)


async def test_a_type_of_ones_own(autojump_clock: MockClock) -> None:
    class Numbered(events.Event, frozen=True, kw_only=True):
        NAME = "NUMBERED"
        n: int

    async with open_world() as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, 5)
        async for event in shard.subscribe(Numbered):
            assert event.n == 5
            assert event.dispatch.shard == (0, 1)
            break


@pytest.mark.parametrize(
    "call",
    [
        lambda shard: shard.subscribe(int),
        lambda shard: shard.subscribe(events.Event),
        lambda shard: shard.subscribe(events.Ready, capacity=0),
        lambda shard: shard.subscribe(overflow="explode"),
    ],
)
async def test_a_subscription_that_makes_no_sense(call: object, autojump_clock: MockClock) -> None:
    async with open_world() as (_, shard):
        with pytest.raises(ValueError):
            call(shard)  # type: ignore[operator]


# --- processed ---


async def test_asking_for_the_next_event_finishes_the_last_one(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe("NUMBERED")
        await shard.wait_ready()
        numbered(gateway, 1, 2, 3)
        await trio.sleep(1)
        processed = [shard.statistics().sequence_processed]
        for _ in range(3):
            await anext(subscription)
            processed.append(shard.statistics().sequence_processed)
        with trio.move_on_after(1):
            await anext(subscription)
        processed.append(shard.statistics().sequence_processed)
        assert processed == [2, 2, 3, 4, 5]
        assert shard.statistics().sequence_received == 5


async def test_the_slowest_of_several_decides(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        fast, slow = shard.subscribe("NUMBERED"), shard.subscribe("NUMBERED")
        await shard.wait_ready()
        numbered(gateway, 1, 2, 3)
        for _ in range(3):
            await anext(fast)
        await anext(slow)
        await anext(slow)
        assert shard.session is not None
        assert shard.session.sequence == 3


@pytest.mark.parametrize("closed", [True, False])
async def test_what_the_last_subscriber_left_is_not_processed(closed: bool, autojump_clock: MockClock) -> None:
    async with open_world(keep_session=True) as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, 1, 2, 3)
        await trio.sleep(1)
        if closed:
            with shard.subscribe("NUMBERED") as subscription:
                assert (await anext(subscription)).json() == {"n": 1}
        else:
            assert await take(shard, 1) == [1]
    assert shard.session is not None
    # READY and GUILD_CREATE; whether the first number is finished, only who closes says.
    assert shard.session.sequence == (3 if closed else 2)


async def test_an_exception_leaves_the_event_of_a_context_manager_unfinished(autojump_clock: MockClock) -> None:
    async with open_world(keep_session=True) as (gateway, shard):
        await shard.wait_ready()
        numbered(gateway, 1, 2, 3)
        with pytest.raises(ZeroDivisionError), shard.subscribe("NUMBERED") as subscription:
            await anext(subscription)
            raise ZeroDivisionError
    assert shard.session is not None
    assert shard.session.sequence == 2


async def test_events_of_an_older_session_do_not_hold_a_newer_one_back(autojump_clock: MockClock) -> None:
    async with open_world() as (gateway, shard):
        subscription = shard.subscribe()
        await shard.wait_ready()
        await anext(subscription)
        gateway.connections[0].invalidate(resumable=False)
        await gateway.wait_ready(2)
        await shard.wait_ready()
        await trio.sleep(1)
        statistics = shard.statistics()
        assert statistics.sequence_received == 2
        assert statistics.sequence_processed == 1


async def test_a_reconnect_neither_loses_nor_doubles_with_a_blocked_reader(autojump_clock: MockClock) -> None:
    async with open_world([After("dispatch", 60), Sleep(1), Drop()], [After("resumed"), Sleep(5), Reconnect()]) as (
        gateway,
        shard,
    ):
        quick, slow = shard.subscribe("NUMBERED", capacity=50), shard.subscribe("NUMBERED", capacity=3)
        await shard.wait_ready()
        numbered(gateway, *range(100))
        got: dict[str, list[int]] = {"quick": [], "slow": []}

        async def read(name: str, pause: float) -> None:
            async for event in quick if name == "quick" else slow:
                got[name].append(event.json()["n"])
                await trio.sleep(pause)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "quick", 0)
            nursery.start_soon(read, "slow", 0.3)
            await trio.sleep(120)
            nursery.cancel_scope.cancel()
        assert got["quick"] == got["slow"] == list(range(100))
        assert gateway.report.identifies == 1


async def test_a_hub_takes_any_number_of_names() -> None:
    hub = Hub(keep_backlog=True)
    for number in range(2000):
        assert hub.has_room(f"EVENT_{number}", replaying=False) is (number < DEFAULT_CAPACITY)
        if number < DEFAULT_CAPACITY:
            hub.publish(Dispatch(f"EVENT_{number}", number, (0, 1), b"{}"))
    await wait_all_tasks_blocked()
    assert hub.waiting() == (DEFAULT_CAPACITY,)
