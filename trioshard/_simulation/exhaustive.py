"""Every order in which Trio may run the tasks of a small world, one after the other.

Trio runs tasks in turns. Whoever is ready at the beginning of a turn runs once in it, in an order about which nothing
is promised. Here *every* permutation is tried, in every turn, not just the two that today's Trio would choose from. A
world may also ask for choices of its own (`Choices.choose`): whether the gateway says op 7 now or a turn later, how a
write goes. `explore` runs the world again and again, and takes another way each time, depth first, until there is none
left. A *schedule* is one such way from the beginning to the end.

Most ways meet again: two tasks that do not touch the same things leave the same state behind, in either order. So the
state of the whole run is fingerprinted before a turn with a choice (see `fingerprint`). Where a state comes up from
which everything has been tried, nothing is tried again, since what follows is the same. That run still goes on to its
end, without further choices. This loses no state and no failure, and the schedules that were not run can be counted: as
many as were found to follow after that state. `merge=False` explores without it; the tests compare both.

What is not varied: Trio's own two tasks, which share nothing with a world; the order in which deadlines of the same
moment are looked at, and in which a cancellation reaches the tasks under one scope (both go by age).
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

from trioshard._groups import members_of
from trioshard._simulation.fingerprint import fingerprint
from trioshard._simulation.scheduler import arranged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio._core._run import Runner
    from trio.lowlevel import Task

    World = Callable[["Choices"], Awaitable[object]]

__all__ = ["Choices", "Diverged", "Exploration", "Failure", "explore", "replay", "shorten"]

_STANDSTILL: Final = 100_000.0
"""Virtual seconds: nothing that ends lasts so long."""

_RUNS_BETWEEN_COLLECTIONS: Final = 200


class Diverged(Exception):
    """The same choices led somewhere else: the world depends on something that is not among them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule that broke a rule.

    Attributes:
        choices: what `replay` needs to run it again.
        error: what went wrong.
        story: what happened, turn by turn.
    """

    choices: tuple[int, ...]
    error: BaseException
    story: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.story, f"=> {_innermost(self.error)!r}", f"choices: {list(self.choices)}"])


@dataclass(slots=True)
class Exploration:
    """What `explore` found.

    Attributes:
        runs: how often the world was run.
        schedules: how many schedules these stand for, from the first to the last; exact if ``complete``.
        states: different states at the beginning of a turn with a choice.
        turns: turns of the longest run.
        deepest: choices on the longest way.
        most_ready: tasks that were ready in the same turn, at most.
        complete: whether everything was tried.
        endings: what the world returned, and how many runs ended so.
        failure: the first schedule that broke a rule. Nothing is tried after it.
        seconds: of real time.
    """

    runs: int = 0
    schedules: int = 0
    states: int = 0
    turns: int = 0
    deepest: int = 0
    most_ready: int = 0
    complete: bool = False
    endings: dict[object, int] = field(default_factory=dict[object, int])
    failure: Failure | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class _Node:
    """One choice on the way that is being tried."""

    label: str
    options: int
    state: bytes | None
    option: int = 0
    schedules: int = 0


class Choices:
    """The choices of one run. A world is given this, asks it, and tells it the story.

    Before `begin` and after `end` nothing is chosen, and tasks run in one order: the youngest first.
    """

    def __init__(self, path: list[_Node], known: dict[bytes, int], *, merge: bool) -> None:
        self._path = path
        self._known = known
        self._merge = merge
        self.asked = 0
        self._exploring = False
        self.turns = 0
        self.most_ready = 0
        self.story: list[str] = []
        self.rest: int | None = None
        """Schedules after the state at which this run met an earlier one."""
        self.diverged: str | None = None
        self.looped = False

    def begin(self) -> None:
        """From here on everything is tried."""
        self._exploring = True

    def end(self) -> None:
        """What follows is not of interest."""
        self._exploring = False

    def choose(self, what: str, options: int) -> int:
        """Return a number from 0 to ``options - 1``: each of them, in one run or another."""
        if not self._exploring:
            return 0
        return self._choose(what, options, lambda: None)

    def tell(self, what: str) -> None:
        """Add to the story. What is told has no influence."""
        self.story.append(f"turn {self.turns:3}, {trio.current_time():6.2f} s  {what}")

    def arrange(self, batch: list[Task]) -> None:
        """Put the tasks of a turn in an order, as `scheduler.arranged` wants it."""
        self.turns += 1
        runner = GLOBAL_RUN_CONTEXT.runner
        own = [task for task in batch if not _is_trios(task, runner)]
        if not self._exploring or len(own) < 2:
            return
        self.most_ready = max(self.most_ready, len(own))
        label = "order of " + ", ".join(map(_name, own))
        number = self._choose(label, math.factorial(len(own)), lambda: self._fingerprint(runner, own))
        order = _permutation(own, number)
        self.tell("runs " + ", ".join(map(_name, order)))
        # Trio takes them from the end.
        batch[:] = order[::-1] + [task for task in batch if task not in own]

    def _fingerprint(self, runner: Runner, ready: list[Task]) -> bytes | None:
        if not self._merge:
            return None
        tasks = sorted(runner.tasks, key=_age)
        trios = [task for task in tasks if _is_trios(task, runner)]
        idle: list[Any] = [[*key, task] for key, task in runner.waiting_for_idle.items()]
        roots = (runner.clock.current_time(), ready, tasks, _deadlines(runner), idle)
        return fingerprint(roots, closed=(self, *trios))

    def _choose(self, label: str, options: int, fingerprint_now: Callable[[], bytes | None]) -> int:
        if self.rest is not None or self.diverged is not None:
            return 0
        number, self.asked = self.asked, self.asked + 1
        if number < len(self._path):
            node = self._path[number]
            if (node.label, node.options) != (label, options):
                self.diverged = f"choice {number} was {node.label} of {node.options}, and is {label} of {options}"
                return 0
            return node.option
        state = fingerprint_now()
        if state is not None:
            self.rest = self._known.get(state)
            if self.rest is not None:
                return 0
            self.looped = self.looped or any(node.state == state for node in self._path)
        self._path.append(_Node(label, options, state))
        return 0

    def check(self) -> None:
        """Raise `Diverged` if this run did not follow the choices."""
        if self.diverged is None and self.rest is None and self.asked < len(self._path):
            self.diverged = f"{len(self._path)} choices were to be made, and only {self.asked} came up"
        if self.diverged is not None:
            raise Diverged(self.diverged)


def explore(world: World, *, limit: int = 1_000_000, merge: bool = True) -> Exploration:
    """Try every schedule of a world, until one breaks a rule.

    Args:
        world: an async function, run from the beginning each time under a clock that jumps. It raises when a rule
            is broken; what it returns is an ending (hashable).
        limit: how many runs to make at most.
        merge: whether to try nothing twice after states that are equal.

    Raises:
        Diverged: the world is not decided by its choices alone.
    """
    exploration = Exploration()
    path: list[_Node] = []
    known: dict[bytes, int] = {}
    begun = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()
    try:
        while exploration.runs < limit:
            choices = Choices(path, known, merge=merge)
            error = _run_once(world, choices, exploration)
            if error is not None:
                way = tuple(node.option for node in path)
                exploration.failure = Failure(way, error, tuple(choices.story))
                break
            if _go_on(path, known, 1 if choices.rest is None else choices.rest, exploration):
                exploration.complete = True
                break
            if exploration.runs % _RUNS_BETWEEN_COLLECTIONS == 0:
                gc.collect()
    finally:
        if collecting:
            gc.enable()
    exploration.states = len(known)
    exploration.seconds = time.perf_counter() - begun
    return exploration


def replay(world: World, choices: Sequence[int]) -> Failure | None:
    """Run one schedule again; return how it fails, or ``None`` if it does not.

    Raises:
        Diverged: there is no such schedule.
    """
    script = _Script(choices)
    error = _run_once(world, script, Exploration())
    return None if error is None else Failure(tuple(choices), error, tuple(script.story))


def shorten(world: World, failure: Failure) -> Failure:
    """Return a failure with fewer choices that are not the first option: one after another is taken back."""
    for number in reversed(range(len(failure.choices))):
        choices = [*failure.choices[:number], 0, *failure.choices[number + 1 :]]
        with suppress(Diverged):
            failure = replay(world, choices) or failure
    return failure


class _Script(Choices):
    """Follows a list of numbers."""

    def __init__(self, script: Sequence[int]) -> None:
        super().__init__([], {}, merge=False)
        self._script = iter(script)

    def _choose(self, label: str, options: int, fingerprint_now: Callable[[], bytes | None]) -> int:
        option = next(self._script, 0)
        if option >= options:
            self.diverged = f"there is no option {option} for {label}"
            return 0
        return option


def _run_once(world: World, choices: Choices, exploration: Exploration) -> BaseException | None:
    error: BaseException | None = None
    ending: object = None
    with arranged(choices.arrange):
        try:
            ending = trio.run(_guarded, world, choices, clock=trio.testing.MockClock(autojump_threshold=0))
        except trio.TrioInternalError as exc:
            # What goes wrong in `Choices.arrange` is no fault of the world.
            raise exc.__cause__ or exc from None
        except Exception as exc:
            error = exc
    choices.check()
    if error is None and choices.looped:
        error = AssertionError("the same state came twice: this can go on for ever")
    exploration.runs += 1
    exploration.turns = max(exploration.turns, choices.turns)
    exploration.most_ready = max(exploration.most_ready, choices.most_ready)
    exploration.deepest = max(exploration.deepest, choices.asked)
    exploration.endings[ending] = exploration.endings.get(ending, 0) + 1
    return error


async def _guarded(world: World, choices: Choices) -> object:
    trio.lowlevel.spawn_system_task(_wake_the_stuck)
    return await world(choices)


async def _wake_the_stuck() -> None:
    """After a very long time: whoever has refused to be cancelled, and sleeps still, would sleep for ever."""
    while True:
        await trio.sleep(_STANDSTILL)
        tasks: list[Any] = list(GLOBAL_RUN_CONTEXT.runner.tasks)
        for task in tasks:
            # Who waits for the tasks of a nursery wakes when they are through.
            asleep = task is not trio.lowlevel.current_task() and task._next_send_fn is None
            if asleep and task._abort_func is None and not task.child_nurseries:
                error = AssertionError(f"{_name(task)} sleeps for ever, and cannot be cancelled")
                trio.lowlevel.reschedule(task, outcome.Error(error))


def _go_on(path: list[_Node], known: dict[bytes, int], schedules: int, exploration: Exploration) -> bool:
    """Turn to the next option of the deepest choice that has one; return whether there is none."""
    while path:
        node = path[-1]
        node.schedules += schedules
        node.option += 1
        if node.option < node.options:
            return False
        path.pop()
        schedules = node.schedules
        if node.state is not None:
            known[node.state] = schedules
    exploration.schedules = schedules
    return True


def _permutation(tasks: list[Task], number: int) -> list[Task]:
    return list(next(itertools.islice(itertools.permutations(tasks), number, None)))


def _is_trios(task: Task, runner: Runner) -> bool:
    nursery = task.parent_nursery
    return nursery is None or (nursery.parent_task is runner.init_task and task is not runner.main_task)


def _age(task: Task) -> int:
    counted: Any = task
    age: int = counted._counter
    return age


def _deadlines(runner: Runner) -> list[trio.CancelScope]:
    """Return the scopes with a deadline, in the order in which Trio would look at them."""
    deadlines: Any = runner.deadlines
    return [scope for when, _, scope in sorted(deadlines._heap) if when == scope._registered_deadline]


def _name(task: Task) -> str:
    return task.name.rpartition(".")[2].lstrip("_")


def _innermost(error: BaseException) -> BaseException:
    members = members_of(error)
    return _innermost(members[0]) if members else error
