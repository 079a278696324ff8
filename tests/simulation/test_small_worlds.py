"""Small worlds, whole: every schedule of each, and that the exploration misses nothing."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.simulation import broken_parts
from trioshard import _connection, _queue, _shard
from trioshard._simulation.exhaustive import Choices, Diverged, Exploration, explore, replay, shorten
from trioshard._simulation.fingerprint import Opaque, fingerprint
from trioshard._simulation.small_worlds import SMALL_WORLDS, SmallWorld

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WORLDS = {world.title: world for world in SMALL_WORLDS}


@functools.cache
def explored(title: str) -> Exploration:
    """A world of our own parts is explored once for all tests."""
    return WORLDS[title].explore()


# --- our own parts ---


@pytest.mark.parametrize("world", [world for world in SMALL_WORLDS if not world.large], ids=lambda world: world.title)
def test_no_schedule_of_a_small_world_breaks_a_rule(world: SmallWorld) -> None:
    found = explored(world.title)
    assert found.failure is None, str(shorten(world.play, found.failure))
    assert found.complete
    assert found.schedules >= found.runs > 10


def test_every_way_in_which_a_send_can_end_comes_up() -> None:
    cancelled = explored("sender, canceller").endings
    left = explored("the block is left during a write, two senders").endings
    told = [
        {answer for ending in endings for _, answers in ending[0] for answer in answers}
        for endings in (cancelled, left)
    ]
    assert told == [{"receipt", "cancelled"}, {"receipt", "closed"}]


# --- broken parts ---

FOUND_IN = [
    (_connection, "Wire", broken_parts.NoLock, "one sender, op 7", "leaves while closing"),
    (_connection, "Wire", broken_parts.LooksTwice, "one sender, op 9", "leaves while closing"),
    (_connection, "Wire", broken_parts.LooksBeforeTheLock, "sender, heartbeat, op 9", "after the end was read"),
    (_connection, "Wire", broken_parts.NoBar, "sender, heartbeat, op 9", "after the end was read"),
    (_connection, "Wire", broken_parts.NoInterrupt, "a write that stands still, op 7 at once", "ended 10 s later"),
    (_connection, "Wire", broken_parts.MovesAfterTheWrite, "Identify in flight, op 9", "leaves while greeted"),
    (
        _connection,
        "Sender",
        broken_parts.ReceiptBeforeTheWrite,
        "one sender, op 7",
        "has its receipt, and left 0 times",
    ),
    (
        _connection,
        "Wire",
        broken_parts.GoesOnAfterABreak,
        "a write that breaks, a heartbeat is asked for",
        "a frame that was cut",
    ),
    (_connection, "Sender", broken_parts.WaitsUnderTheLock, "a sender without budget, heartbeat", "heartbeats left at"),
    (_connection, "SendBudget", broken_parts.KeepsItsPermit, "one sender, op 7", "a permit of a connection"),
    (_connection, "Wire", broken_parts.InterruptsForCallers, "sender, canceller", "has cut a frame"),
    (_shard, "CommandQueue", broken_parts.NotHeldBack, "sender, canceller", "0 commands count as written, and 1 left"),
    (_shard, "CommandQueue", broken_parts.KeepsTheSlot, "a queue of one, two senders, canceller", "TooSlow"),
    (_shard, "Connection", broken_parts.WakesOnReadyOnly, "one sender, op 7", "TooSlow"),
]


@pytest.mark.parametrize(
    ("module", "name", "part", "title", "why"), FOUND_IN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_part_is_found(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, part: type, title: str, why: str
) -> None:
    monkeypatch.setattr(module, name, part)
    if part is broken_parts.InterruptsForCallers:
        monkeypatch.setattr(_queue, "Entry", broken_parts.InterruptingEntry)
    world = WORLDS[title]
    found = world.explore()
    assert found.failure is not None
    assert why in str(found.failure)
    again = replay(world.play, found.failure.choices)
    assert again is not None
    assert again.story == found.failure.story


def test_a_failure_is_shortened_and_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "Wire", broken_parts.NoBar)
    world = WORLDS["sender, heartbeat, op 9"]
    failure = world.explore().failure
    assert failure is not None
    short = shorten(world.play, failure)
    assert sum(map(bool, short.choices)) <= sum(map(bool, failure.choices))
    assert "after the end was read" in str(short)


# --- the exploration itself ---


def test_merging_equal_states_loses_no_schedule_and_no_ending() -> None:
    title = "a sender without budget, heartbeat"
    merged, whole = explored(title), WORLDS[title].explore(merge=False)
    assert merged.complete
    assert whole.complete
    assert merged.schedules == whole.schedules == whole.runs > merged.runs
    assert set(merged.endings) == set(whole.endings)


async def in_parallel(*tasks: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for number, task in enumerate(tasks):
            nursery.start_soon(task, name=f"task {number}")


async def lost_update(choices: Choices) -> int:
    """What is read lies in a variable while the other task runs."""
    count = 0

    async def add() -> None:
        nonlocal count
        seen = count
        await trio.lowlevel.checkpoint()
        count = seen + 1

    async def add_later() -> None:
        await trio.lowlevel.checkpoint()
        await add()

    choices.begin()
    await in_parallel(add, add_later, add)
    return count


async def lost_on_the_stack(choices: Choices) -> int:
    """What is read has no name: it lies on the stack of the task."""
    counts = [0]

    async def one() -> int:
        await trio.lowlevel.checkpoint()
        return 1

    async def add() -> None:
        counts[0] = counts[0] + await one()

    choices.begin()
    await in_parallel(add, add, add)
    return counts[0]


async def iterates(choices: Choices) -> tuple[str, ...]:
    """How far a loop has come is known to nobody but its iterator."""
    seen: list[str] = []

    async def walk(name: str) -> None:
        for letter in "xyz"[: choices.choose("how far", 3)]:
            await trio.lowlevel.checkpoint()
            if letter == "y":
                seen.append(name)

    choices.begin()
    await in_parallel(lambda: walk("a"), lambda: walk("b"))
    return tuple(seen)


async def first_come(choices: Choices) -> tuple[int, ...]:
    """The line for a lock is part of the state."""
    lock, order = trio.Lock(), []

    async def take(number: int) -> None:
        async with lock:
            await trio.lowlevel.checkpoint()
        order.append(number)

    choices.begin()
    await in_parallel(*(lambda number=number: take(number) for number in range(3)))
    return tuple(order)


@pytest.mark.parametrize(
    ("world", "endings"),
    [(lost_update, 2), (lost_on_the_stack, 1), (iterates, 5), (first_come, 6)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_merging_sees_whatever_makes_a_difference(world: Callable[[Choices], Awaitable[object]], endings: int) -> None:
    merged, whole = explore(world), explore(world, merge=False)
    assert set(merged.endings) == set(whole.endings)
    assert len(merged.endings) == endings
    assert merged.schedules == whole.schedules == whole.runs


def test_every_permutation_of_the_ready_tasks_is_run() -> None:
    async def world(choices: Choices) -> tuple[int, ...]:
        order: list[int] = []

        async def note(number: int) -> None:
            order.append(number)

        choices.begin()
        await in_parallel(*(lambda number=number: note(number) for number in range(4)))
        return tuple(order)

    found = explore(world)
    assert len(found.endings) == found.schedules == 24
    assert found.most_ready == 4


def test_a_world_that_its_choices_do_not_decide_is_an_error_of_its_own() -> None:
    runs: list[None] = []

    async def world(choices: Choices) -> None:
        runs.append(None)
        choices.begin()
        choices.choose("an option", 2)
        choices.choose("another", 2 + len(runs) % 2)
        choices.choose("a third", 2)

    with pytest.raises(Diverged, match="another"):
        explore(world)


def test_a_world_that_can_go_on_for_ever_is_found() -> None:
    async def world(choices: Choices) -> None:
        async def spin() -> None:
            for _ in iter(lambda: choices.choose("go on, or stop", 2), 1):
                if len(choices.story) > 200:
                    return
                await trio.lowlevel.checkpoint()

        choices.begin()
        await in_parallel(spin, spin)

    failure = explore(world).failure
    assert failure is not None
    assert "the same state came twice" in str(failure)


def test_who_cannot_be_cancelled_and_is_never_woken_is_found() -> None:
    async def world(choices: Choices) -> None:
        with trio.move_on_after(1):
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    failure = explore(world).failure
    assert failure is not None
    assert "sleeps for ever" in str(failure)


def test_the_limit_of_runs_is_kept() -> None:
    found = WORLDS["one sender, op 7"].explore(limit=3)
    assert (found.runs, found.complete, found.failure) == (3, False, None)


def test_a_state_that_cannot_be_seen_has_no_fingerprint() -> None:
    with pytest.raises(Opaque, match="lock"):
        fingerprint([threading.Lock()])
    with pytest.raises(Opaque, match="no order"):
        fingerprint([{(1, object()), (2, object())}])
