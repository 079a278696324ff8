"""Trio under a scheduler of ours: its decisions alone decide, and nothing of it stays behind."""

from __future__ import annotations

import gc
import inspect
import os
import secrets
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio._core import _run as trio_run
from trio.lowlevel import checkpoint

from tests.simulation.processes import told_elsewhere
from trioshard._simulation.scheduler import arranged, run_seeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import Task
    from trio.testing import MockClock

CROWD = 40
"""So many that an order which is left to memory addresses is not right by luck."""


def as_they_are(tasks: list[Task]) -> None:
    """Leave the tasks of a turn in the order of their age: the youngest runs first."""


def oldest_first(tasks: list[Task]) -> None:
    tasks.reverse()


def run_arranged(arrange: Callable[[list[Task]], None], main: Callable[[], Awaitable[Any]]) -> Any:
    with arranged(arrange):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def three_turns_of_four() -> list[int]:
    """Return who ran, turn by turn."""
    ran: list[int] = []

    async def run(number: int) -> None:
        for _ in range(3):
            ran.append(number)
            await checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)
    return ran


# --- the order of a turn ---


def test_each_turn_runs_from_the_last_task_to_the_first() -> None:
    assert run_arranged(as_they_are, three_turns_of_four) == [3, 2, 1, 0] * 3
    assert run_arranged(oldest_first, three_turns_of_four) == [0, 1, 2, 3] * 3


def test_each_turn_is_arranged_anew() -> None:
    # In a fourth turn they find that they are done.
    turns = iter([[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0], [0, 1, 2, 3]])

    def arrange(tasks: list[Task]) -> None:
        if len(tasks) == 4:
            tasks[:] = [tasks[number] for number in reversed(next(turns))]

    assert run_arranged(arrange, three_turns_of_four) == [0, 1, 2, 3, 2, 0, 3, 1, 3, 2, 1, 0]


def test_the_tasks_of_a_turn_are_offered_by_age_however_they_became_ready() -> None:
    offered: list[list[str]] = []

    def arrange(tasks: list[Task]) -> None:
        offered.append([task.name for task in tasks])

    async def main() -> None:
        tasks: list[Task] = []

        async def sleeper() -> None:
            tasks.append(trio.lowlevel.current_task())
            tasks.sort(key=lambda task: task.name)
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(sleeper, name=f"sleeper {number}")
            await trio.testing.wait_all_tasks_blocked()
            for number in (4, 1, 5, 0, 2, 3):
                trio.lowlevel.reschedule(tasks[number])

    run_arranged(arrange, main)
    assert [f"sleeper {number}" for number in range(6)] in offered


# --- what memory addresses would decide ---


async def order_of_aborts(*, scopes: bool) -> list[int]:
    """Return the order in which a cancellation reaches a crowd, each in a scope of its own or in one nursery."""
    reached: list[int] = []

    async def member(number: int) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            reached.append(number)
            return trio.lowlevel.Abort.SUCCEEDED

        if scopes:
            with trio.CancelScope():
                await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.wait_task_rescheduled(abort)

    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(member, number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return reached


def test_a_cancellation_reaches_tasks_from_the_oldest_to_the_youngest() -> None:
    async def main() -> list[int]:
        return await order_of_aborts(scopes=False)

    assert run_arranged(oldest_first, main) == list(range(CROWD))


def test_a_cancellation_reaches_scopes_from_the_youngest_to_the_oldest() -> None:
    async def main() -> list[int]:
        return await order_of_aborts(scopes=True)

    assert run_arranged(oldest_first, main) == list(reversed(range(CROWD)))


def test_deadlines_of_one_moment_fire_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        fired: list[int] = []

        async def wait(number: int) -> None:
            def abort(_: object) -> trio.lowlevel.Abort:
                fired.append(number)
                return trio.lowlevel.Abort.SUCCEEDED

            with trio.move_on_at(5.0):
                await trio.lowlevel.wait_task_rescheduled(abort)

        async with trio.open_nursery() as nursery:
            for number in range(CROWD):
                nursery.start_soon(wait, number)
        return fired

    assert run_arranged(oldest_first, main) == list(range(CROWD))
    assert run_arranged(as_they_are, main) == list(reversed(range(CROWD)))


# --- runs from a seed ---


def story(seed: int) -> list[str]:
    """Tell what happens in a run in which everything depends on order and chance."""
    told: list[str] = []

    async def member(name: str, random: Random, scope: trio.CancelScope) -> None:
        try:
            for _ in range(4):
                if random.random() < 0.5:
                    await checkpoint()
                else:
                    await trio.sleep(random.choice((1.0, 2.0)))
                told.append(f"{trio.current_time():g} {name} {os.urandom(2).hex()} {secrets.token_bytes(2).hex()}")
                if len(told) == 60:
                    scope.cancel()
        finally:
            told.append(f"{name} leaves")

    async def main(_: MockClock) -> None:
        async with trio.open_nursery() as nursery:
            # A set of strings is walked through in another order in each process, and sorted here.
            for name in sorted({f"member {number}" for number in range(20)}):
                nursery.start_soon(member, name, Random(name), nursery.cancel_scope)

    run_seeded(Random(seed), main)
    return told


def test_the_same_seed_gives_the_same_run() -> None:
    assert story(1) == story(1)
    assert story(1) != story(2)


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    code = "from tests.simulation.test_scheduler import story; print(story(3))"
    assert told_elsewhere(code, hash_seed=12345) == f"{story(3)}\n"


def test_every_order_of_a_turn_comes_up() -> None:
    async def main(_: MockClock) -> tuple[int, ...]:
        return tuple((await three_turns_of_four())[:4])

    assert len({run_seeded(Random(seed), main) for seed in range(300)}) == 24


def test_the_clock_jumps_exactly_to_the_deadlines() -> None:
    async def main(_: MockClock) -> list[float]:
        moments = []
        for deadline in (0.1, 0.1 + 0.2, 1 / 3, 1e9 / 7, 1e9 / 7 + 0.1):
            with trio.move_on_at(deadline):
                await trio.sleep_forever()
            moments.append(trio.current_time())
        return moments

    assert run_seeded(Random(0), main) == [0.1, 0.1 + 0.2, 1 / 3, 1e9 / 7, 1e9 / 7 + 0.1]


def test_no_time_passes_but_by_jumps() -> None:
    async def main(clock: MockClock) -> list[float]:
        moments = [trio.current_time()]
        sum(range(100_000))
        await checkpoint()
        moments.append(trio.current_time())
        clock.jump(7.5)
        moments.append(trio.current_time())
        return moments

    assert run_seeded(Random(0), main) == [0.0, 0.0, 7.5]


def test_the_chance_of_the_system_comes_from_the_seed_inside() -> None:
    async def main(_: MockClock) -> tuple[bytes, bytes, int, int]:
        return os.urandom(16), secrets.token_bytes(16), len(secrets.token_bytes()), len(os.urandom(5))

    assert run_seeded(Random(5), main) == run_seeded(Random(5), main)
    assert run_seeded(Random(5), main)[:2] != run_seeded(Random(6), main)[:2]
    assert run_seeded(Random(5), main)[2:] == (32, 5)


# --- nothing stays behind ---


def private_parts() -> list[object]:
    """What of Trio, the system and Python a run changes."""
    return [
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING,
        trio_run._r,
        trio_run.CancelStatus.__init__,
        "id" in vars(trio_run),
        os.urandom,
        secrets.token_bytes,
        gc.isenabled(),
    ]


@pytest.mark.parametrize("collecting", [True, False])
def test_everything_is_as_it_was_after_a_run(collecting: bool) -> None:
    async def main(_: MockClock) -> list[object]:
        return private_parts()

    (gc.enable if collecting else gc.disable)()
    try:
        before = private_parts()
        inside = run_seeded(Random(0), main)
        assert all(part != was for part, was in zip(inside[1:-1], before[1:-1], strict=True))
        assert (inside[0], inside[-1]) == (True, False)
        assert private_parts() == before
    finally:
        gc.enable()


def test_everything_is_as_it_was_after_an_error() -> None:
    async def main(_: MockClock) -> None:
        raise ValueError("on purpose")

    before = private_parts()
    with pytest.raises(ValueError, match="on purpose"):
        run_seeded(Random(0), main)
    assert private_parts() == before


# --- the parts of Trio that are used ---


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "CancelStatus", "GLOBAL_RUN_CONTEXT"])
def test_trio_still_has_the_private_part(name: str) -> None:
    assert hasattr(trio_run, name), f"this Trio has no trio._core._run.{name}: the simulation cannot arrange its tasks"


def test_trio_still_keeps_what_a_scope_contains_in_sets() -> None:
    status = trio_run.CancelStatus(scope=trio.CancelScope(), parent=None)
    for name in ("_children", "_tasks"):
        kept = getattr(status, name, None)
        assert isinstance(kept, set), (
            f"CancelStatus.{name} of this Trio is no set: cancellations come in no known order"
        )


def test_trio_asks_chance_for_nothing_but_a_shuffle_and_a_coin() -> None:
    source = inspect.getsource(trio_run.unrolled_run)
    assert "_r.shuffle(batch)" in source, "this Trio does not shuffle the tasks of a turn with _r.shuffle"
    assert "batch.pop()" in source, "this Trio does not run the tasks of a turn from the last to the first"


def test_trio_still_breaks_ties_between_deadlines_by_id() -> None:
    source = inspect.getsource(trio_run.Deadlines.add)
    assert "id(" in source, "this Trio breaks ties between deadlines in another way than by id()"
    assert not hasattr(trio_run, "id")


async def test_the_clocks_still_have_their_private_parts(autojump_clock: MockClock) -> None:
    assert isinstance(autojump_clock._virtual_base, float), "MockClock has no _virtual_base any more"
    assert callable(autojump_clock._autojump), "MockClock has no _autojump any more"
    deadlines = trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines
    with trio.move_on_at(12.5):
        assert deadlines.next_deadline() == 12.5, "Deadlines.next_deadline means something else in this Trio"
