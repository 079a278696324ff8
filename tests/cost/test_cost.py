"""What an event costs, counted and not timed, so that it comes out the same on any machine.

The figures are those of the day on which they were last looked at, and a tenth more is allowed. A test that fails is a
question: is what came for it worth it? If so, the figure goes up in the same change. What became cheaper goes down.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.cost.meter import LOCKS, SCOPES, TASKS, Meter
from tests.cost.station import Station, World, open_world
from trioshard.events import MessageCreate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.transport.peer import Tls
    from trioshard import Shard, Subscription

EVENTS: Final = 1000
WARM_UP: Final = 200
ROOMY: Final = 2 * EVENTS
"""The capacity of an outbox that holds nobody up."""

ALLOWED: Final = 1.1

BURST_CALLS: Final = {
    ("websockets", "raw"): 14.1,
    ("websockets", "typed"): 19.1,
    ("trio-websocket", "raw"): 22.1,
    ("trio-websocket", "typed"): 27.1,
}
BURST_TURNS: Final = {
    ("websockets", "plain"): 0.021,
    ("websockets", "tls"): 0.021,
    ("trio-websocket", "plain"): 2.03,
    ("trio-websocket", "tls"): 2.03,
}
BURST_PEAK_KIB: Final = {"websockets": 1800, "trio-websocket": 790}
BLOCKS_KEPT_PER_THOUSAND: Final = 10
PACED_CALLS: Final = {
    ("websockets", "plain"): 37.0,
    ("websockets", "tls"): 46.0,
    ("trio-websocket", "plain"): 37.5,
    ("trio-websocket", "tls"): 46.5,
}
PACED_TURNS: Final = {"websockets": 2, "trio-websocket": 4}
CALLS_PER_SUBSCRIBER: Final = 4.05
SHARDS_MAY_DIFFER_BY: Final = 0.05
IDLE_TURNS_PER_MINUTE: Final = {"websockets": 10.5, "trio-websocket": 14.8}

PARTS: Final = "the parts of this path: _transport_*.py, _reader.py, protocol/compression.py, _subscription.py"


def check(what: str, figure: float, bound: float, look_at: str) -> None:
    """Fail with everything that somebody needs who has not seen this file before."""
    assert figure <= bound, f"{what}: {figure:.4g}, and {bound:.4g} are allowed. Look at {look_at}"


async def take(subscription: Subscription[Any], count: int) -> None:
    """Receive so many events."""
    if count:
        async for _ in subscription:
            count -= 1
            if not count:
                break


async def warm(world: World, shard: Shard, station: Station, kind: str = "raw") -> Subscription[Any]:
    """Subscribe, and receive the first events, so that whatever is made once is there."""
    if kind == "typed":
        subscription: Subscription[Any] = shard.subscribe(MessageCreate, capacity=ROOMY)
        await receive(world, subscription, station.burst, station.events(WARM_UP))
    else:
        subscription = shard.subscribe("MESSAGE_CREATE", capacity=ROOMY)
        await receive(world, subscription, station.burst, station.events(WARM_UP))
    return subscription


async def receive(
    world: World,
    subscription: Subscription[Any],
    send: Callable[[list[bytes]], Awaitable[None]],
    events: list[bytes],
) -> Meter:
    """Have the events sent, and count what it takes until all are received."""
    await wait_all_tasks_blocked()
    world.servers.start_soon(send, events)
    with Meter(world.servers) as meter:
        await take(subscription, len(events))
    return meter


# --- a burst ---


@pytest.mark.parametrize("kind", ["raw", "typed"])
async def test_calls_for_an_event_of_a_burst(kind: str, transport: str, autojump_clock: MockClock) -> None:
    async with open_world(transport=transport) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station, kind)
        meter = await receive(world, subscription, station.burst, station.events(EVENTS))
    check(
        "calls of Python functions for each event",
        meter.calls / EVENTS,
        BURST_CALLS[transport, kind] * ALLOWED,
        f"what is called most: {meter.dearest(EVENTS)}",
    )


@pytest.mark.parametrize(("kind", "decodes"), [("raw", 1), ("typed", 2)])
async def test_an_event_is_decoded_no_further_than_somebody_asked(
    kind: str, decodes: int, transport: str, autojump_clock: MockClock
) -> None:
    """Its envelope always is; what is in it only for a subscriber that wants the type."""
    async with open_world(transport=transport) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station, kind)
        meter = await receive(world, subscription, station.burst, station.events(EVENTS))
    check(
        f"decodings of JSON for {EVENTS} events",
        meter.decodes,
        EVENTS * decodes,
        "who reads the data of an event: protocol/codec.py, protocol/events.py, _reader.py, Subscription._convert",
    )


async def test_turns_for_an_event_of_a_burst(transport: str, tls: Tls | None, autojump_clock: MockClock) -> None:
    async with open_world(transport=transport, tls=tls) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station)
        meter = await receive(world, subscription, station.burst, station.events(EVENTS))
    check(
        "turns of tasks for each event",
        meter.turns / EVENTS,
        BURST_TURNS[transport, "tls" if tls else "plain"] * ALLOWED,
        "what is awaited between the line and the outbox, and whether a batch is still handed over in one step",
    )


async def test_a_burst_takes_no_scope_no_lock_and_no_task(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    async with open_world(transport=transport, tls=tls) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station)
        meter = await receive(world, subscription, station.burst, station.events(EVENTS))
    check_nothing_made(meter)


def check_nothing_made(meter: Meter) -> None:
    for what, codes in (("cancel scopes", SCOPES), ("locks", LOCKS), ("tasks", TASKS)):
        check(f"{what} for {EVENTS} events", meter.calls_of(codes), 0, PARTS)


async def test_a_burst_needs_no_more_memory_the_longer_it_is(transport: str, autojump_clock: MockClock) -> None:
    peaks: list[float] = []
    async with open_world(transport=transport) as world:
        [(station, shard)] = world.pairs
        subscription = shard.subscribe("MESSAGE_CREATE")
        await receive(world, subscription, station.burst, station.events(WARM_UP))
        for count in (2 * EVENTS, 6 * EVENTS):
            events = [b"".join(station.events(count))]
            gc.collect()
            tracemalloc.start()
            try:
                world.servers.start_soon(station.burst, events)
                await take(subscription, count)
                peaks.append(tracemalloc.get_traced_memory()[1] / 1024)
            finally:
                tracemalloc.stop()
    for peak in peaks:
        check(
            "KiB at the peak of a burst",
            peak,
            BURST_PEAK_KIB[transport] * ALLOWED,
            "what holds on to messages and events",
        )


@pytest.mark.parametrize("kind", ["raw", "typed"])
async def test_nothing_of_an_event_stays(kind: str, transport: str, autojump_clock: MockClock) -> None:
    blocks: list[int] = []
    async with open_world(transport=transport) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station, kind)
        for _ in range(4):
            world.servers.start_soon(station.burst, station.events(EVENTS))
            await take(subscription, EVENTS)
            await wait_all_tasks_blocked()
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    thousands = 3 * EVENTS / 1000
    check(
        "memory blocks that stay for each thousand events",
        (blocks[-1] - blocks[0]) / thousands,
        BLOCKS_KEPT_PER_THOUSAND,
        "what remembers events: in_hand of an outbox, caches, statistics",
    )


# --- one event at a time ---


async def test_an_event_that_comes_alone_costs_one_turn_to_read_and_one_to_take(
    transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    """With trio-websocket, the library's task reads, and ours is woken by it."""
    async with open_world(transport=transport, tls=tls) as world:
        [(station, shard)] = world.pairs
        subscription = await warm(world, shard, station)
        meter = await receive(world, subscription, station.trickle, station.events(EVENTS))
    check(
        "turns of tasks for each event that comes alone",
        meter.turns / EVENTS,
        PACED_TURNS[transport] + 1 / EVENTS,
        "what is awaited although it is there already; a wait that wakes twice; a task in between",
    )
    check(
        "calls of Python functions for each event that comes alone",
        meter.calls / EVENTS,
        PACED_CALLS[transport, "tls" if tls else "plain"] * ALLOWED,
        f"what is called most: {meter.dearest(EVENTS)}",
    )
    check_nothing_made(meter)


# --- many ---


async def calls_of_one_event(shards: int, transport: str) -> tuple[float, str]:
    """The calls for each event when so many shards of one process receive at the same time; and what is called most."""
    events = EVENTS // 2
    async with open_world(shards, transport=transport) as world:
        subscriptions = [await warm(world, shard, station) for station, shard in world.pairs]
        for station, _ in world.pairs:
            world.servers.start_soon(station.burst, station.events(events))
        meter = await receive_all(world, subscriptions, events)
    return meter.calls / (events * shards), meter.dearest(events * shards)


async def receive_all(world: World, subscriptions: list[Subscription[Any]], count: int) -> Meter:
    """Receive what was just sent, each subscription in a task of its own, and count what it takes."""
    with Meter(world.servers) as meter:
        async with trio.open_nursery() as nursery:
            for subscription in subscriptions:
                nursery.start_soon(take, subscription, count)
    return meter


async def test_an_event_costs_the_same_however_many_shards_there_are(transport: str, autojump_clock: MockClock) -> None:
    alone, _ = await calls_of_one_event(1, transport)
    among_eight, dearest = await calls_of_one_event(8, transport)
    check(
        f"calls for each event with eight shards, where one shard alone takes {alone:.2f}",
        among_eight,
        alone * (1 + SHARDS_MAY_DIFFER_BY),
        f"what goes through all shards: {dearest}",
    )


async def calls_with_subscribers(count: int) -> tuple[float, str]:
    """The calls for each event when so many listen to one shard; and what is called most."""
    async with open_world() as world:
        [(station, shard)] = world.pairs
        subscriptions = [await warm(world, shard, station)]
        subscriptions += [shard.subscribe("MESSAGE_CREATE", capacity=ROOMY) for _ in range(count - 1)]
        world.servers.start_soon(station.burst, station.events(EVENTS))
        meter = await receive_all(world, subscriptions, EVENTS)
    return meter.calls / EVENTS, meter.dearest(EVENTS)


@pytest.mark.parametrize("count", [2, 8])
async def test_each_further_subscriber_adds_only_what_it_takes_itself(count: int, autojump_clock: MockClock) -> None:
    alone, _ = await calls_with_subscribers(1)
    together, dearest = await calls_with_subscribers(count)
    check(
        f"calls for each event and further subscriber, with {count} of them",
        (together - alone) / (count - 1),
        CALLS_PER_SUBSCRIBER * ALLOWED,
        f"what is done for each outbox: {dearest}",
    )


# --- nothing happens ---


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_shard_to_which_nothing_happens_takes_few_turns(
    shards: int, transport: str, tls: Tls | None, autojump_clock: MockClock
) -> None:
    minutes = 20
    async with open_world(shards, transport=transport, tls=tls) as world:
        for station, shard in world.pairs:
            await warm(world, shard, station)
        await trio.sleep(60)
        with Meter(world.servers) as meter:
            await trio.sleep(60 * minutes)
    check(
        "turns of tasks for an idle shard and minute",
        meter.turns / shards / minutes,
        IDLE_TURNS_PER_MINUTE[transport] * ALLOWED,
        "timers and wake-ups: _heartbeater.py, _sender.py, the deadline in _reader.py",
    )


# --- the meter itself ---


async def test_what_is_said_to_cost_nothing_would_be_counted() -> None:
    async def nothing() -> None:
        pass

    async with trio.open_nursery() as nursery:
        lock = trio.Lock()
        with Meter() as meter:
            with trio.CancelScope():
                async with lock:
                    pass
            nursery.start_soon(nothing)
            await trio.lowlevel.checkpoint()
            json.loads("1")
            msgspec.json.decode(b"1")
            msgspec.json.Decoder().decode(b"1")
    assert meter.decodes == 3
    for codes in (SCOPES, LOCKS, TASKS):
        assert meter.calls_of(codes) >= 1
    assert meter.turns >= 2
