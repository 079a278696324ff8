"""``trioshard soak``: two bots in real trouble, and the verdict on what it left."""

from __future__ import annotations

import gc
import signal
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from trioshard._demo.display import Screen
from trioshard._open_transport import require_websockets
from trioshard._soak.display import View, render_line, render_screen
from trioshard._soak.samples import Samples
from trioshard._soak.station import Setup, Station
from trioshard._soak.summary import Leftovers, Summary
from trioshard._soak.tls import make_contexts
from trioshard._soak.usage import count_descriptors, count_objects, count_tasks, measure_memory
from trioshard.errors import MissingDependency
from trioshard.protocol.compression import require_zstd

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Generator
    from typing import TextIO

    from trioshard.protocol.compression import TransportCompression

    Show = Callable[[Callable[[], View]], Awaitable[None]]

__all__ = ["Options", "run_soak", "show_lines", "show_screen"]

SAMPLE_EVERY: Final = (0.2, 5.0)
"""Seconds between two samples, in a short run and in a long one."""

SAMPLES_WANTED: Final = 60
"""Samples of a short run, at least."""

OBJECTS_EVERY: Final = 2.0
"""Seconds, at least, between two counts of objects: each holds everything up for some 50 ms."""

LINE_EVERY: Final = 5.0
FRAME: Final = 0.5
"""Seconds between two plain lines, and between two moments on a screen."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: how many seconds, drawn from which seed, with how many senders a bot, with TLS or without."""

    seconds: float = 60.0
    seed: int = 0
    senders: int = 8
    tls: bool = True


async def run_soak(options: Options, show: Show | None = None) -> Summary:
    """Run the soak; what came of it.

    Ctrl-C ends the trouble before its time; a second one does not wait for what is still under way.

    Args:
        options: what was asked for.
        show: runs as long as the soak and may look at it at any moment.

    Raises:
        ImportError: TLS is wanted, and ``trustme`` is not installed.
        ProxyFailed: a proxy ended by itself.
    """
    contexts = make_contexts() if options.tls else None
    tasks, descriptors = count_tasks(), count_descriptors()
    soak = _Soak(options, contexts)
    with _counting_unclosed() as unclosed:
        await soak.run(show)
        gc.collect()
    leftovers = Leftovers(count_tasks() - tasks, count_descriptors() - descriptors, len(unclosed))
    return soak.summary(leftovers)


def choose_setups(options: Options, contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> list[Setup]:
    """Choose what the two bots use. The seed says which of them has which transport."""
    transports = ["trio-websocket"]
    try:
        require_websockets()
    except MissingDependency:
        pass
    else:
        transports.append("websockets")
    try:
        require_zstd()
    except MissingDependency:
        second: TransportCompression = "zlib-stream"
    else:
        second = "zstd-stream"
    first_transport, second_transport = (transports[(options.seed + number) % len(transports)] for number in range(2))
    return [
        Setup("zlib-stream", first_transport, None, f"{options.seed} first", options.senders),
        Setup(second, second_transport, contexts, f"{options.seed} second", options.senders),
    ]


class _Soak:
    """One run: both stations, and what is sampled meanwhile."""

    def __init__(self, options: Options, contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> None:
        self._options = options
        self._stations = [Station(setup) for setup in choose_setups(options, contexts)]
        self._samples = Samples()
        self._over = trio.Event()
        self._whole = trio.CancelScope()
        self._began = trio.current_time()
        self._lasted = 0.0
        self._interrupts = 0

    async def run(self, show: Show | None) -> None:
        """Let the trouble begin, end it in time, and wait for the stations to settle."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._obey_interrupts)
            with self._whole:
                async with trio.open_nursery() as stations:
                    for station in self._stations:
                        await stations.start(station.run, self._over)
                    nursery.start_soon(self._sample)
                    if show is not None:
                        nursery.start_soon(show, self._view)
                    with trio.move_on_after(self._options.seconds):
                        await self._over.wait()
                    self._lasted = trio.current_time() - self._began
                    self._over.set()
            nursery.cancel_scope.cancel()

    def summary(self, leftovers: Leftovers) -> Summary:
        """Say what came of it."""
        return Summary(
            seconds=round(self._lasted or trio.current_time() - self._began, 1),
            seed=self._options.seed,
            stations=[station.books for station in self._stations],
            trends=self._samples.trends(),
            leftovers=leftovers,
            interrupted=self._interrupts > 0,
        )

    async def _obey_interrupts(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            task_status.started()
            async for _ in interrupts:
                self._interrupts += 1
                if self._interrupts == 1:
                    self._over.set()
                else:
                    self._whole.cancel()

    async def _sample(self) -> None:
        """Take samples while there is trouble."""
        shortest, longest = SAMPLE_EVERY
        pause = min(longest, max(shortest, self._options.seconds / SAMPLES_WANTED))
        objects_due = 0.0
        while not self._over.is_set():
            values = {
                "memory": measure_memory(),
                "tasks": count_tasks(),
                "descriptors": count_descriptors(),
                "waiting": sum(station.waiting for station in self._stations),
                "outbox": sum(station.outbox for station in self._stations),
            }
            if trio.current_time() >= objects_due:
                values["objects"] = count_objects()
                objects_due = trio.current_time() + OBJECTS_EVERY
            self._samples.add(sum(station.connections for station in self._stations), values)
            await trio.sleep(pause)

    def _view(self) -> View:
        books = [station.books for station in self._stations]
        return View(
            elapsed=trio.current_time() - self._began,
            seconds=self._options.seconds,
            seed=self._options.seed,
            connections=sum(each.connections for each in books),
            resumes=sum(each.resumes for each in books),
            identifies=sum(each.identifies for each in books),
            kills=sum(each.trouble.get("kill", 0) for each in books),
            resets=sum(each.trouble.get("reset", 0) for each in books),
            stalls=sum(each.trouble.get("stall", 0) for each in books),
            written=sum(each.commands.written for each in books),
            received=sum(each.dispatches.received for each in books),
            faults=sum(each.faults for each in books),
            memory=measure_memory(),
            tasks=count_tasks(),
        )


@contextmanager
def _counting_unclosed() -> Generator[list[warnings.WarningMessage]]:
    """Count what the collector has to close, which Python tells as warnings that are ignored otherwise."""
    with warnings.catch_warnings(record=True) as unclosed:
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ResourceWarning)
        yield unclosed


async def show_screen(stream: TextIO, view: Callable[[], View]) -> None:
    """Redraw a few lines until cancelled."""
    with Screen(stream) as screen:
        while True:
            screen.draw(render_screen(view()))
            await trio.sleep(FRAME)


async def show_lines(stream: TextIO, view: Callable[[], View]) -> None:
    """Print a line now and then until cancelled."""
    while True:
        await trio.sleep(LINE_EVERY)
        print(render_line(view()), file=stream, flush=True)
