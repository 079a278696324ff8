"""Trio with a scheduler that somebody else decides: the same decisions, the same run, in any process.

Trio has a switch for this (`_ALLOW_DETERMINISTIC_SCHEDULING`, which pytest-trio uses as well): it sorts the tasks that
are ready by their age, and lets a source of chance shuffle them. Three things are left to memory addresses even then,
and are put in order here: in which order a cancellation reaches the tasks below it, in which order the scopes below
it are looked at, and which of two deadlines at the same moment comes first. Chance that libraries take from the
system (the masks and keys of WebSockets) comes from the same source.

All of it reaches into private parts of Trio. A version that has other ones is noticed: see `tests/simulation`.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import secrets
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from random import Random

    from trio.lowlevel import Task

    Arrange = Callable[[list[Task]], None]

__all__ = ["arranged", "run_seeded"]

_run: Any = import_module("trio._core._run")
"""Trio's run loop. What is needed of it is private, and has no types."""

T = TypeVar("T")


class _InOrder(dict[Any, None]):
    """A set that is walked through in the order of arrival, as far as Trio needs one."""

    add = dict[Any, None].setdefault
    remove = dict[Any, None].__delitem__


class _Chance:
    """What Trio takes for its source of chance."""

    def __init__(self, arrange: Arrange) -> None:
        self.shuffle = arrange

    def random(self) -> float:
        return 0.0


@contextmanager
def arranged(arrange: Arrange) -> Generator[None]:
    """While this lasts, each `trio.run` asks ``arrange`` for the order of the tasks that are ready.

    Give it a clock: Trio's own takes its offset from chance.

    Args:
        arrange: is given the tasks of a turn, sorted by age, and puts them in another order, in place. Trio then runs
            them **from the last to the first**.
    """
    numbers = itertools.count()
    init = _run.CancelStatus.__init__

    def init_in_order(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._children = _InOrder()
        self._tasks = _InOrder()

    def next_number(_: object) -> int:
        return next(numbers)

    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = True, _Chance(arrange)
    # Trio calls `id` where two deadlines are equal, and in texts. A number of its own for each call decides by age.
    _run.id = next_number
    _run.CancelStatus.__init__ = init_in_order
    try:
        yield
    finally:
        _run.CancelStatus.__init__ = init
        del _run.id
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = before


def run_seeded(random: Random, main: Callable[[trio.testing.MockClock], Awaitable[T]]) -> T:
    """Run ``main`` under a virtual clock, which it is given, with an order of tasks drawn from ``random``.

    Any order of tasks may be drawn, not only those that Trio itself would choose from. The garbage collector rests
    meanwhile: what it does, and when, depends on everything that the process has done before.
    """
    clock: Any = trio.testing.MockClock(autojump_threshold=0)
    # It stands still but for jumps. Asking for the real time, to multiply it by zero, is what takes its time.
    clock.current_time = lambda: clock._virtual_base
    clock._autojump = lambda: _jump(clock)

    def arrange(batch: list[Task]) -> None:
        if len(batch) > 1:
            random.shuffle(batch)

    async def begin() -> T:
        _lighten(_run.GLOBAL_RUN_CONTEXT.runner)
        return await main(clock)

    collecting = gc.isenabled()
    gc.disable()
    try:
        with arranged(arrange), _system_chance(random):
            return trio.run(begin, clock=clock)
    finally:
        if collecting:
            gc.enable()


def _lighten(runner: Any) -> None:
    """Leave out what a run in memory has no use for, and what takes a sixth of its time: instruments, and I/O."""
    runner.instruments = {}
    manager, entries = runner.io_manager, runner.entry_queue
    if type(manager).__name__ != "EpollIOManager":
        return
    get_events = manager.get_events

    def events_if_any(timeout: float) -> list[Any]:
        # Nothing comes from outside but calls of `run_sync_soon`, which knock on a socket.
        return get_events(timeout) if entries.queue or entries.idempotent_queue else []

    _wrap(manager, events_if_any)


def _wrap(manager: Any, get_events: Callable[[float], list[Any]]) -> None:
    class Quiet(type(manager)):  # type: ignore[misc]
        __slots__ = ()

    Quiet.get_events = staticmethod(get_events)
    manager.__class__ = Quiet


def _jump(clock: Any) -> None:
    # Trio's own way to the same number makes a whole `statistics()` on the way.
    deadline: float = _run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
    if clock._virtual_base < deadline < math.inf:
        clock._virtual_base = deadline


@contextmanager
def _system_chance(random: Random) -> Generator[None]:
    urandom, token_bytes = os.urandom, secrets.token_bytes
    os.urandom = random.randbytes

    def seeded_token_bytes(nbytes: int | None = None) -> bytes:
        return random.randbytes(32 if nbytes is None else nbytes)

    secrets.token_bytes = seeded_token_bytes
    try:
        yield
    finally:
        os.urandom, secrets.token_bytes = urandom, token_bytes
