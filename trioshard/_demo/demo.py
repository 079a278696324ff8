"""``trioshard demo``: a bot in heavy weather, with the books of both sides at the end.

The built-in gateway listens on loopback TCP and ends each connection after fractions of a second: op 7, op 9, closes,
ends without a close, resets; Hellos and replays are slow now and then. One shard keeps reconnecting to it, while
senders never stop sending through it, and events never stop coming.
"""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from trioshard import Backoff, Intents, LocalIdentifyQueue, open_shard
from trioshard._demo.bot import Listener, Senders, tag_of
from trioshard._demo.display import HISTORY, Screen, View, render_line, render_screen
from trioshard._demo.ledger import Ledger, SessionRecord
from trioshard._demo.summary import CommandCounts, ReadyTimes, Summary
from trioshard._demo.weather import Publisher, heavy_weather
from trioshard.errors import ShardFailed
from trioshard.testing import open_local_gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TextIO

    from trioshard import Phase, Shard
    from trioshard._demo.weather import Weather
    from trioshard.testing import LocalGateway

    Show = Callable[[Callable[[], View]], Awaitable[None]]

__all__ = ["Options", "run_demo", "show_lines", "show_screen"]

TOKEN: Final = "demo"

HASTE: Final = Backoff(base=0.05, cap=0.1, identify_base=0.5, identify_cap=1.0)
"""Hardly any wait between attempts. Only right because the gateway is our own: the default is kind to Discord.
Identifies keep their 5 s all the same."""

HEARTBEATS: Final = 3.0
"""Seconds. Often enough that some connections live to see one."""

SETTLE: Final = 45.0
"""Seconds for the bot to be ready and to have got everything, when all is calm: a new session takes some ten."""

ASK_AGAIN: Final = 0.5
"""Seconds after which the end of the events is looked for once more."""

FRAME: Final = 0.1
"""Seconds between two moments on the screen."""

LINE_EVERY: Final = 2.0
"""Seconds between two plain lines."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: how many seconds, drawn from which seed, with how many senders."""

    seconds: float = 20.0
    seed: int = 0
    senders: int = 8


async def run_demo(options: Options, show: Show | None = None) -> Summary:
    """Run the demo; what came of it.

    Ctrl-C ends the weather before its time; a second one does not wait for what is still under way.

    Args:
        options: what was asked for.
        show: runs as long as the demo and may look at it at any moment.
    """
    weather = heavy_weather(options.seed)
    async with open_local_gateway(
        token=TOKEN, heartbeat_interval=HEARTBEATS, guilds=2, scenario=weather, seed=options.seed
    ) as gateway:
        demo = _Demo(options, gateway, weather)
        failure = None
        try:
            async with open_shard(
                TOKEN,
                intents=Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.GUILD_VOICE_STATES,
                url=gateway.url,
                backoff=HASTE,
                # It starts more sessions in a minute than Discord grants in an hour.
                identify_queue=LocalIdentifyQueue(guard=False),
            ) as shard:
                await demo.play(shard, show)
        except ShardFailed as exc:
            failure = str(exc)
        return demo.summary(failure)


class _Demo:
    """One run: who takes part in it, and what is known of it."""

    def __init__(self, options: Options, gateway: LocalGateway, weather: Weather) -> None:
        self._options = options
        self._gateway = gateway
        self._weather = weather
        self._ledger = Ledger()
        self._publisher = Publisher(gateway, self._ledger)
        self._listener = Listener(self._ledger)
        self._storm = trio.CancelScope()
        self._whole = trio.CancelScope()
        self._began = trio.current_time()
        self._lasted = 0.0
        self._interrupts = 0
        self._withdrawn: set[int] = set()
        self._settled = False
        self._books: Summary | None = None
        weather.publish = self._publisher.publish

    async def play(self, shard: Shard, show: Show | None) -> None:
        """Let the weather rage, calm it, and close the books."""
        senders = Senders(shard, [guild.id for guild in self._gateway.guilds], self._withdrawn.add)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._obey_interrupts)
                nursery.start_soon(self._listener.run, shard)
                if show is not None:
                    nursery.start_soon(show, lambda: self._view(shard))
                with self._whole:
                    await self._send_and_publish(shard, senders)
                    self._settled = True
                nursery.cancel_scope.cancel()
        finally:
            self._books = self._close_books(shard)

    def summary(self, failure: str | None) -> Summary:
        """What came of it. ``failure`` is what ended the shard, if anything did."""
        assert self._books is not None, "the books are closed by `play`"
        return replace(self._books, failure=failure)

    async def _send_and_publish(self, shard: Shard, senders: Senders) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(self._options.senders):
                nursery.start_soon(senders.run, Random(f"{self._options.seed} sender {number}"))
            with trio.move_on_after(self._options.seconds), self._storm:
                await self._publisher.run(Random(f"{self._options.seed} publisher"))
            self._lasted = trio.current_time() - self._began
            self._weather.calm = True
            self._whole.deadline = trio.current_time() + SETTLE
            senders.stop()
            await self._wait_delivered(shard)

    async def _wait_delivered(self, shard: Shard) -> None:
        """Wait for one last event: everything that came before it has arrived then, or never will."""
        while True:
            await shard.wait_ready()
            number = self._publisher.publish()
            # The shard may not know yet that its session is over, and the event go to nobody.
            with trio.move_on_after(ASK_AGAIN) as scope:
                await self._listener.wait_received(number)
            if not scope.cancelled_caught:
                return

    async def _obey_interrupts(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            task_status.started()
            async for _ in interrupts:
                self._interrupts += 1
                (self._storm if self._interrupts == 1 else self._whole).cancel()

    def _close_books(self, shard: Shard) -> Summary:
        report, statistics = self._gateway.report, shard.statistics()
        tags = {tag_of(arrival) for arrival in (*report.commands, *report.crossings)}
        records = {
            entry.session_id: SessionRecord(entry.ended, entry.last_sequence) for entry in report.sessions.values()
        }
        return Summary(
            seconds=round(self._lasted or trio.current_time() - self._began, 1),
            seed=self._options.seed,
            connections=report.connections,
            resumes=report.resumes,
            identifies=report.identifies,
            commands=CommandCounts.of(
                statistics.commands,
                arrived=sum(report.commands_by_op.values()),
                withdrawn_but_arrived=len(self._withdrawn & tags),
            ),
            refused=dict(report.violations),
            crossing=report.crossing,
            dispatches=self._ledger.balance(records, current=statistics.session_id, settled=self._interrupts < 2),
            ready_ms=ReadyTimes.of(statistics.recovery_times),
            settled=self._settled,
            interrupted=self._interrupts > 0,
        )

    def _view(self, shard: Shard) -> View:
        report, ledger, queue = self._gateway.report, self._ledger, shard.statistics().commands
        return View(
            elapsed=trio.current_time() - self._began,
            seconds=self._options.seconds,
            seed=self._options.seed,
            phase=shard.phase,
            connections=report.connections,
            resumes=report.resumes,
            identifies=report.identifies,
            written=queue.written,
            withdrawn=queue.withdrawn,
            superseded=queue.superseded,
            waiting=queue.pending,
            sent=ledger.sent,
            received=ledger.received,
            blemishes=ledger.blemishes,
            refused=sum(report.violations.values()),
        )


async def show_screen(stream: TextIO, view: Callable[[], View]) -> None:
    """Redraw a few lines until cancelled."""
    history: deque[Phase] = deque(maxlen=HISTORY)
    with Screen(stream) as screen:
        try:
            while True:
                moment = view()
                history.append(moment.phase)
                screen.draw(render_screen(replace(moment, history=tuple(history)), unicode=screen.unicode))
                await trio.sleep(FRAME)
        finally:
            screen.draw(render_screen(replace(view(), history=tuple(history)), unicode=screen.unicode))


async def show_lines(stream: TextIO, view: Callable[[], View]) -> None:
    """Print a line now and then until cancelled."""
    while True:
        await trio.sleep(LINE_EVERY)
        print(render_line(view()), file=stream, flush=True)
