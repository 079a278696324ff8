"""Many seeds, on several processors: played, judged and counted."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final

from trioshard._simulation.coverage import Coverage
from trioshard._simulation.history import run_seed
from trioshard._simulation.setup import available_transports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trioshard._simulation.history import Result

__all__ = ["Order", "Tally", "run_campaign"]

PORTION: Final = 8
"""Seeds that a process plays before it reports."""

ENOUGH: Final = 20
"""Failing seeds after which a campaign stops."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be played.

    Attributes:
        first: the first seed.
        count: how many.
        jobs: processes.
        transport: forces a transport; by default each seed draws one.
        prepare: ``"module:function"`` to call in each process first, such as one that breaks the shard on purpose.
        enough: failing seeds after which to stop.
    """

    first: int = 0
    count: int = 100
    jobs: int = 1
    transport: str | None = None
    prepare: str = ""
    enough: int = ENOUGH

    @property
    def seeds(self) -> range:
        """The seeds to play."""
        return range(self.first, self.first + self.count)


@dataclass(slots=True)
class Tally:
    """What came of a campaign, or has come of it so far.

    Attributes:
        order: what was asked for.
        coverage: what was met.
        played: seeds judged.
        failures: those with complaints, in the order of their seeds.
        least: the smallest virtual seconds, reconnects and commands of any seed.
        elapsed: real seconds.
        cpu: processor seconds.
        interrupted: whether Ctrl-C ended it before its time.
    """

    order: Order
    coverage: Coverage
    played: int = 0
    failures: list[Result] = field(default_factory=list["Result"])
    seconds: float = 0.0
    connections: int = 0
    commands: int = 0
    written: int = 0
    events: int = 0
    least: tuple[float, int, int] | None = None
    elapsed: float = 0.0
    cpu: float = 0.0
    interrupted: bool = False

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.played += 1
        self.seconds += result.seconds
        self.connections += result.connections
        self.commands += result.commands
        self.written += result.written
        self.events += result.events
        mine = (result.seconds, result.reconnects, result.commands)
        if self.least is None:
            self.least = mine
        else:
            was = self.least
            self.least = (min(was[0], mine[0]), min(was[1], mine[1]), min(was[2], mine[2]))
        self.coverage.add(result)
        if result.complaints:
            self.failures.append(result)
            self.failures.sort(key=lambda failed: failed.seed)

    @property
    def pace(self) -> float:
        """Seeds per processor second."""
        return self.played / self.cpu if self.cpu else 0.0


def play(seeds: Sequence[int], transport: str | None) -> tuple[list[Result], float]:
    """Play some seeds in this process; what came of them, and the processor seconds that it took."""
    began = time.process_time()
    results = [run_seed(seed, transport=transport) for seed in seeds]
    # `run_seed` keeps the collector out of its histories.
    gc.collect()
    return results, time.process_time() - began


def prepare(call: str) -> None:
    """Get a process ready for a campaign."""
    logging.getLogger("trioshard").setLevel(logging.INFO)
    if call:
        module, _, function = call.partition(":")
        getattr(import_module(module), function)()
    gc.collect()
    gc.freeze()


def _prepare_worker(call: str) -> None:
    # Ctrl-C reaches everybody who belongs to a terminal. One is to obey it; the others are told what to do by that one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(call)


def run_campaign(order: Order, show: Callable[[Tally], None] | None = None) -> Tally:
    """Play what was ordered.

    Args:
        order: what to play.
        show: is called with the tally after each portion.

    Ctrl-C ends it; the tally is what there is by then.
    """
    tally = Tally(order, Coverage([order.transport] if order.transport else available_transports()))
    began = time.monotonic()
    try:
        for results, cpu in _portions(order):
            for result in results:
                tally.add(result)
            tally.cpu += cpu
            tally.elapsed = time.monotonic() - began
            if show is not None:
                show(tally)
            if len(tally.failures) >= order.enough:
                break
    except KeyboardInterrupt:
        tally.interrupted = True
    return tally


def _portions(order: Order) -> Iterator[tuple[list[Result], float]]:
    seeds = order.seeds
    size = 1 if order.enough == 1 else PORTION
    portions = deque(seeds[start : start + size] for start in range(0, len(seeds), size))
    if order.jobs == 1:
        prepare(order.prepare)
        try:
            while portions:
                yield play(portions.popleft(), order.transport)
        finally:
            gc.unfreeze()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(order.jobs, context, initializer=_prepare_worker, initargs=(order.prepare,))
    try:
        under_way: set[Future[tuple[list[Result], float]]] = set()
        while portions or under_way:
            while portions and len(under_way) < 2 * order.jobs:
                under_way.add(pool.submit(play, portions.popleft(), order.transport))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
