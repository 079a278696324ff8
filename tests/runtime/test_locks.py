"""`Holding`: a lock that costs no turn while it is free, and is as fair as Trio's own while it is not."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioshard._locks import Holding


class Turns(trio.abc.Instrument):
    """Counts how often one task is given its turn."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.count = 0
        self._task = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def hold(lock: trio.Lock, name: str, order: list[str]) -> None:
    async with Holding(lock):
        order.append(name)
        await trio.lowlevel.checkpoint()


async def test_a_free_lock_costs_no_turn() -> None:
    lock = trio.Lock()
    turns = Turns(trio.lowlevel.current_task())
    trio.lowlevel.add_instrument(turns)
    for _ in range(10):
        async with Holding(lock):
            assert lock.locked()
        assert not lock.locked()
    assert turns.count == 0
    async with lock:  # what the lock by itself costs, and a check that the turns are counted
        pass
    assert turns.count >= 1
    trio.lowlevel.remove_instrument(turns)


async def test_only_one_is_inside() -> None:
    lock, inside, most = trio.Lock(), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with Holding(lock):
            inside += 1
            most = max(most, inside)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(enter)
    assert most == 1


async def test_those_who_wait_enter_in_the_order_in_which_they_came() -> None:
    lock, order = trio.Lock(), list[str]()
    async with trio.open_nursery() as nursery:
        async with Holding(lock):
            for name in "abc":
                nursery.start_soon(hold, lock, name, order)
                await wait_all_tasks_blocked()
    assert order == ["a", "b", "c"]


async def test_who_comes_again_does_not_pass_those_who_wait() -> None:
    lock, order = trio.Lock(), list[str]()
    async with trio.open_nursery() as nursery:
        async with Holding(lock):
            nursery.start_soon(hold, lock, "waits", order)
            await wait_all_tasks_blocked()
        # Released, and asked for in the same step: whoever waits has not run since.
        await hold(lock, "comes again", order)
    assert order == ["waits", "comes again"]


async def test_who_uses_the_lock_itself_stands_in_the_same_line() -> None:
    lock, order = trio.Lock(), list[str]()

    async def acquire() -> None:
        async with lock:
            order.append("lock")

    async with trio.open_nursery() as nursery:
        async with Holding(lock):
            nursery.start_soon(hold, lock, "before", order)
            await wait_all_tasks_blocked()
            nursery.start_soon(acquire)
            await wait_all_tasks_blocked()
            nursery.start_soon(hold, lock, "after", order)
            await wait_all_tasks_blocked()
    assert order == ["before", "lock", "after"]


async def test_who_is_cancelled_before_the_door_does_not_enter() -> None:
    lock, order = trio.Lock(), list[str]()
    with trio.CancelScope() as scope:
        scope.cancel()
        await hold(lock, "cancelled", order)
    assert scope.cancelled_caught
    assert not order
    assert not lock.locked()


async def test_who_is_cancelled_while_waiting_takes_nothing_and_holds_nobody_up() -> None:
    lock, order = trio.Lock(), list[str]()
    impatient = trio.CancelScope()

    async def wait() -> None:
        with impatient:
            await hold(lock, "impatient", order)

    async with trio.open_nursery() as nursery:
        async with Holding(lock):
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            nursery.start_soon(hold, lock, "patient", order)
            await wait_all_tasks_blocked()
            impatient.cancel()
            await wait_all_tasks_blocked()
            assert lock.statistics().tasks_waiting == 1
            assert lock.statistics().owner is trio.lowlevel.current_task()
    assert order == ["patient"]
    assert not lock.locked()


async def test_who_is_cancelled_just_as_the_lock_is_handed_over_gives_it_back() -> None:
    lock, order = trio.Lock(), list[str]()
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await hold(lock, "handed over", order)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with Holding(lock):
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
        scope.cancel()
    assert not lock.locked()
    await hold(lock, "next", order)
    assert order[-1] == "next"


@pytest.mark.parametrize("contested", [False, True])
async def test_it_is_released_when_the_body_raises(contested: bool) -> None:
    lock, order = trio.Lock(), list[str]()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ZeroDivisionError):
            async with Holding(lock):
                if contested:
                    nursery.start_soon(hold, lock, "next", order)
                    await wait_all_tasks_blocked()
                raise ZeroDivisionError
    assert not lock.locked()
    assert order == (["next"] if contested else [])


async def test_it_is_released_when_the_body_is_cancelled() -> None:
    lock = trio.Lock()
    with trio.CancelScope() as scope:
        async with Holding(lock):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not lock.locked()


async def test_whoever_holds_it_may_not_take_it_again() -> None:
    lock = trio.Lock()
    async with Holding(lock):
        with pytest.raises(RuntimeError):
            async with Holding(lock):
                pass
        assert lock.locked()
    assert not lock.locked()
